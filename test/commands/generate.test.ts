// generate: what it writes blocks no writes, passes lint, check and migrate as it is, and can be taken back.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCatalog } from '../../scripts/catalog/catalog.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { migrate, rollback } from '../../src/migrations/index.ts';
import { environmentFor, run, runCli, runSource } from '../support/cli.ts';
import { migratedDatabase, openSessionPool, testWith } from '../support/database.ts';
import { copyOfProject } from '../support/migrations.ts';

const { root, folder } = copyOfProject();

function edit(path: string, ...changes: [from: string, to: string][]): void {
  const before = readFileSync(join(root, path), 'utf8');
  const after = changes.reduce((text, [from, to]) => {
    if (!text.includes(from)) throw new Error(`${path} has no ${from}`);
    return text.replace(from, to);
  }, before);
  writeFileSync(join(root, path), after);
}

const generate = (key: DatabaseKey, name: string) => runCli(['generate', key, '--name', name], {}, { root });
const lint = () => runSource('scripts/checks/sql.ts', [], {}, { root });
const newFiles = (key: DatabaseKey, count: number) => {
  const tags = folder(key)
    .entries.slice(-count)
    .map(({ tag }) => tag);
  return tags.map((tag) => [folder(key).read(`${tag}.sql`), folder(key).read(`${tag}.down.sql`)]);
};

/** Applies what is pending, takes it back, and applies it again, with the catalog as the witness. */
async function upDownUp(key: DatabaseKey, count: number): Promise<void> {
  const pool = openSessionPool(key, await migratedDatabase(key));
  const options = { folder: folder(key).path };
  const before = await readCatalog(pool);
  expect(await migrate(pool, key, options)).toHaveLength(count);
  const after = await readCatalog(pool);
  expect(after).not.toEqual(before);
  await rollback(pool, key, { ...options, count });
  expect(await readCatalog(pool)).toEqual(before);
  await migrate(pool, key, options);
  expect(await readCatalog(pool)).toEqual(after);
}

describe('indexes and constraints of existing tables', () => {
  test('go into a migration of their own, outside of a transaction, and pass all checks without editing', async () => {
    edit(
      'schema/mextrack.ts',
      [
        "phone: varchar('phone', { length: 50 }),",
        "phone: varchar('phone', { length: 50 }), team: uuid('team').references(() => teams.id),",
      ],
      [
        'export const drivers = pgTable(',
        `export const teams = pgTable('teams', { id: primaryId(), name: text('name') }, (table) => [
           index('idx_teams_name').on(table.name).concurrently(),
           check('check_team', sql\`\${table.name} <> ''\`),
         ]);
         export const drivers = pgTable(`,
      ],
      [
        "index('idx_vehicles_user').on(table.userId),",
        `index('idx_vehicles_user').on(table.userId),
         index('idx_make').on(table.make).concurrently(),
         uniqueIndex('idx_model').on(table.model, table.modelYear).where(sql\`\${table.isActive}\`),
         check('check_make', sql\`\${table.make} <> '-'\`),`,
      ],
    );
    const result = await generate('mextrack', 'teams');
    expect(result).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringMatching(
        /0003_teams_concurrently\.sql blocks no writes: .*drizzle-kit migrate cannot/,
      ),
    });
    expect(result.stdout).not.toContain('refuses');
    expect(newFiles('mextrack', 2)).toEqual([
      [
        [
          'CREATE TABLE "teams" (\n\t"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,\n\t"name" text,\n' +
            '\tCONSTRAINT "check_team" CHECK ("teams"."name" <> \'\')\n);',
          'ALTER TABLE "drivers" ADD COLUMN "team" uuid;',
          'CREATE INDEX "idx_teams_name" ON "teams" USING btree ("name");',
        ].join('--> statement-breakpoint\n'),
        expect.stringMatching(/^-- Takes back 0002_teams\.\nDROP INDEX "idx_teams_name"/),
      ],
      [
        [
          '-- transaction: none\n' +
            'ALTER TABLE "drivers" ADD CONSTRAINT "drivers_team_teams_id_fk" FOREIGN KEY ("team") REFERENCES "public"."teams"("id") ON DELETE no action ON UPDATE no action NOT VALID;',
          'ALTER TABLE "drivers" VALIDATE CONSTRAINT "drivers_team_teams_id_fk";',
          'CREATE INDEX CONCURRENTLY "idx_make" ON "vehicles" USING btree ("make");',
          'CREATE UNIQUE INDEX CONCURRENTLY "idx_model" ON "vehicles" USING btree ("model","model_year") WHERE "vehicles"."is_active";',
          'ALTER TABLE "vehicles" ADD CONSTRAINT "check_make" CHECK ("vehicles"."make" <> \'-\') NOT VALID;',
          'ALTER TABLE "vehicles" VALIDATE CONSTRAINT "check_make";',
        ].join('--> statement-breakpoint\n'),
        [
          '-- transaction: none\n-- Takes back 0003_teams_concurrently.',
          'ALTER TABLE "vehicles" DROP CONSTRAINT "check_make";\n--> statement-breakpoint',
          'DROP INDEX CONCURRENTLY "idx_model";\n--> statement-breakpoint',
          'DROP INDEX CONCURRENTLY "idx_make";\n--> statement-breakpoint',
          'ALTER TABLE "drivers" DROP CONSTRAINT "drivers_team_teams_id_fk";\n',
        ].join('\n'),
      ],
    ]);
    expect(await lint()).toMatchObject({ code: 0, stderr: '' });
    expect(await runCli(['check', 'mextrack', '--offline'], {}, { root, fromSource: true })).toMatchObject({
      code: 0,
      stderr: '',
    });
    await upDownUp('mextrack', 2);
  });

  test('a migration of nothing else stays one, and a dropped one of two is generated again', async () => {
    edit('schema/mextrack.ts', [
      "index('idx_vehicles_user').on(table.userId),",
      "index('idx_vehicles_user').on(table.userId), index('idx_vin').on(table.isActive),",
    ]);
    await generate('mextrack', 'vin');
    expect(newFiles('mextrack', 1)).toEqual([
      [
        '-- transaction: none\nCREATE INDEX CONCURRENTLY "idx_vin" ON "vehicles" USING btree ("is_active");',
        '-- transaction: none\n-- Takes back 0004_vin.\nDROP INDEX CONCURRENTLY "idx_vin";\n',
      ],
    ]);
    // The snapshot before knows nothing of what the dropped migrations made.
    const mextrack = folder('mextrack');
    for (const tag of ['0003_teams_concurrently', '0004_vin']) {
      for (const name of [`${tag}.sql`, `${tag}.down.sql`, `meta/${tag.slice(0, 4)}_snapshot.json`])
        mextrack.remove(name);
    }
    mextrack.entries = mextrack.entries.slice(0, 3);
    expect(await generate('mextrack', 'again')).toMatchObject({ code: 0, stderr: '' });
    const [sql] = newFiles('mextrack', 1)[0] ?? [];
    for (const name of ['idx_make', 'idx_model', 'check_make', 'drivers_team_teams_id_fk', 'idx_vin'])
      expect(sql).toContain(`"${name}"`);
  });
});

test('what it cannot make safe is told with the line that accepts it, and lint passes with that line', async () => {
  edit('schema/pshop.ts', ["sku: varchar('sku', { length: 64 })", "sku: varchar('sku', { length: 128 })"]);
  const { code, stdout } = await generate('pshop', 'longer_sku');
  expect({ code, stdout }).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      /"npm run db:lint" refuses this; decide before it is applied:\ndrizzle\/pshop\/0002_longer_sku\.sql:1 changing-column-type: .*\n {2}to keep it as it is, write in the line above: -- squawk-ignore changing-column-type\n/,
    ),
  });
  expect(await lint()).toMatchObject({ code: 1, stdout: expect.stringContaining('changing-column-type') });
  const [line = ''] = /-- squawk-ignore .*/.exec(stdout) ?? [];
  folder('pshop').write('0002_longer_sku.sql', `${line}\n${folder('pshop').read('0002_longer_sku.sql')}`);
  expect(await lint()).toMatchObject({ code: 0 });
});

testWith(
  ['timescaledb'],
  'on a hypertable: chunk by chunk where TimescaleDB can, accepted where it cannot',
  async () => {
    edit(
      'schema/tracking.ts',
      ['  pgView,', '  pgView, uniqueIndex,'],
      [
        "check('check_latitude',",
        `index('idx_speed').on(table.speed).with({ fillfactor: 70 }).where(sql\`\${table.speed} > 100\`),
     index('idx_altitude').on(sql\`abs(\${table.altitude})\`).concurrently(),
     uniqueIndex('idx_once').on(table.deviceId, table.time).concurrently(),
     check('check_source', sql\`\${table.appSource} <> ''\`),
     check('check_latitude',`,
      ],
    );
    const { code, stdout } = await generate('tracking', 'more');
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.not.stringContaining('refuses') });
    const chunkByChunk =
      '-- A hypertable has no CONCURRENTLY: this blocks the writes of one chunk at a time.\n' +
      '-- squawk-ignore require-concurrent-index-creation\n';
    expect(newFiles('tracking', 2).map(([sql]) => sql)).toEqual([
      '-- A unique index of a hypertable has no form that lets writes through.\n' +
        '-- squawk-ignore require-concurrent-index-creation\n' +
        'CREATE UNIQUE INDEX "idx_once" ON "location_events" USING btree ("device_id","time");--> statement-breakpoint\n' +
        '-- TimescaleDB cannot validate a constraint later where a hypertable has compression.\n' +
        '-- squawk-ignore constraint-missing-not-valid\n' +
        'ALTER TABLE "location_events" ADD CONSTRAINT "check_source" CHECK ("location_events"."app_source" <> \'\');',
      [
        '-- transaction: none\n',
        chunkByChunk,
        'CREATE INDEX "idx_speed" ON "location_events" USING btree ("speed") WITH (timescaledb.transaction_per_chunk, fillfactor=70) WHERE "location_events"."speed" > 100;--> statement-breakpoint\n',
        chunkByChunk,
        'CREATE INDEX "idx_altitude" ON "location_events" USING btree (abs("altitude")) WITH (timescaledb.transaction_per_chunk);',
      ].join(''),
    ]);
    expect(await lint()).toMatchObject({ code: 0 });
    await upDownUp('tracking', 2);
  },
);

test('what plain drizzle-kit generates gets its down from generate, and what drizzle-kit drops is missed', async () => {
  const key = 'atriz';
  edit('schema/atriz.ts', ["bio: text('bio')", "bio: text('bio'), nick: text('nick')"]);
  const kit = await run(
    process.execPath,
    ['node_modules/drizzle-kit/bin.cjs', 'generate', '--config', 'drizzle.apps.config.ts', '--name', 'nick'],
    { APP: key },
    root,
  );
  expect(kit).toMatchObject({ code: 0 });
  const url = await migratedDatabase(key);
  const cli = (...args: string[]) => runCli(args, environmentFor(key, url), { root });
  expect(await cli('migrate', key)).toMatchObject({ code: 0 });
  for (const missed of [await cli('migrate', 'down', key, '--yes'), await cli('check', key, '--offline')]) {
    expect(missed.stderr).toContain(
      '0002_nick.down.sql does not exist. "npm run db:generate -- atriz" writes it',
    );
  }
  expect(await cli('generate', key)).toMatchObject({ code: 0 });
  expect(folder(key).read('0002_nick.down.sql')).toContain('DROP COLUMN "nick"');

  // What "drizzle-kit drop" does, which asks in a terminal: it knows no down files.
  folder(key).remove('0002_nick.sql');
  folder(key).remove('meta/0002_snapshot.json');
  folder(key).entries = folder(key).entries.slice(0, -1);
  const back =
    /0002_nick\.down\.sql has no migration, as after "drizzle-kit drop": .*"npm run migrate -- down atriz"/;
  expect(await cli('migrate', key)).toMatchObject({ code: 3, stderr: expect.stringMatching(back) });
  expect(await cli('check', key, '--offline')).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(back),
  });
  expect(await cli('status', key)).toMatchObject({ stdout: expect.stringMatching(back) });
  folder(key).remove('0002_nick.down.sql');
  const record =
    /applied without a file 0002_nick: .*"npm run migrate -- mark atriz 0002_nick --undo" removes the record/;
  expect(await cli('migrate', key)).toMatchObject({ code: 0, stdout: expect.stringMatching(record) });
  expect(await cli('status', key, '--check')).toMatchObject({
    code: 3,
    stdout: expect.stringMatching(record),
  });
  expect(await cli('migrate', 'mark', key, '0002_nick', '--undo', '--yes')).toMatchObject({ code: 0 });
  expect(await cli('status', key, '--check')).toMatchObject({ code: 0 });
});
