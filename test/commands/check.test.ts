// check and generate: what is out of step is named, and each new migration comes with its way back.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { deriveDown } from '../../scripts/drizzle-kit/down-stub.ts';
import { unfinishedMark } from '../../src/migrations/journal.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { environmentFor, runCli, startCli } from '../support/cli.ts';
import { emptyDatabase, maintain, possibleKeys, serverUrl, uniqueRolePrefix } from '../support/database.ts';
import { copyOfProject } from '../support/migrations.ts';

test.each(possibleKeys())(
  '%s: files are in step; up, down, up again leaves the same catalog',
  async (key) => {
    const result = await runCli(['check', key], environmentFor(key, await emptyDatabase(key)));
    expect(result).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('leaves the same catalog'),
    });
  },
);

test('interrupted, it drops its scratch database before it ends', async () => {
  const url = new URL(await emptyDatabase('core'));
  const role = `${uniqueRolePrefix()}checker`;
  await maintain('core', `CREATE ROLE ${role} LOGIN CREATEDB PASSWORD 'x'`);
  [url.username, url.password] = [role, 'x'];
  await using maintenance = createDatabasePool({ connectionString: serverUrl('core', 'postgres'), max: 1 });
  const scratch = async () =>
    (
      await maintenance.query(
        'SELECT 1 FROM pg_database WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = $1)',
        [role],
      )
    ).rowCount;
  const { child, ended } = startCli(['check', 'core'], environmentFor('core', url.href));
  await expect.poll(scratch, { interval: 10 }).toBe(1);
  child.kill('SIGINT');
  await ended;
  expect(child.signalCode).toBe('SIGINT');
  expect(await scratch()).toBe(0);
});

describe('check finds', () => {
  let environment: Record<string, string>;
  beforeAll(async () => {
    environment = environmentFor('atriz', await emptyDatabase('atriz'));
  });
  const check = async (project: ReturnType<typeof copyOfProject>, ...args: string[]) =>
    runCli(['check', 'atriz', ...args], environment, { root: project.root });

  test('a schema that is ahead of its migrations', async () => {
    const project = copyOfProject();
    const path = join(project.root, 'dist', 'schema', 'atriz.js');
    writeFileSync(
      path,
      readFileSync(path, 'utf8').replace("bio: text('bio')", "bio: text('bio'), nick: text('nick')"),
    );
    expect(await check(project, '--offline')).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /ahead of its migrations.*\nALTER TABLE "user_profiles" ADD COLUMN "nick" text/,
      ),
    });
  });

  test('a down that is missing, a stub, and one that does not restore', async () => {
    const project = copyOfProject();
    const folder = project.folder('atriz');
    const entries = folder.entries;
    const snapshot = folder.read('meta/0001_snapshot.json');
    folder.add(
      '0002_more',
      'CREATE TABLE more (id int);\n--> statement-breakpoint\nCREATE TABLE most (id int);',
    );
    const ids = JSON.parse(snapshot) as { id: string };
    folder.write(
      'meta/0002_snapshot.json',
      snapshot.replaceAll(ids.id, crypto.randomUUID()).replace(/"prevId": "[^"]+"/, `"prevId": "${ids.id}"`),
    );
    expect(entries).toHaveLength(2);
    expect(await check(project)).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('0002_more.down.sql does not exist'),
    });
    folder.write('0002_more.down.sql', `${unfinishedMark} all of it\n`);
    expect(await check(project)).toMatchObject({ code: 3, stderr: expect.stringContaining('is a stub') });
    folder.write('0002_more.down.sql', 'DROP TABLE more;');
    expect(await check(project)).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('0002_more.down.sql leaves relation public.most: table'),
    });
  });
});

test('generate and check --offline say why nothing was generated, without a stack', async () => {
  const { root, folder } = copyOfProject();
  const rename = (path: string) => {
    const before = readFileSync(join(root, path), 'utf8');
    const after = before.replace(/\bname: text\('name'\)\.notNull\(\)/, "label: text('label').notNull()");
    expect(after).not.toBe(before);
    writeFileSync(join(root, path), after);
    return () => writeFileSync(join(root, path), before);
  };
  const journal = folder('core').read('meta/_journal.json');
  const both = async () => [
    await runCli(['generate', 'core', '--name', 'x'], {}, { root }),
    await runCli(['check', 'core', '--offline'], {}, { root }),
  ];
  const takeBack = [rename('schema/core.ts'), rename('dist/schema/core.js')];
  const renamed = await both();
  expect(renamed).toMatchObject([
    {
      code: 1,
      stderr: expect.stringMatching(/^Nothing was generated for core: .*was renamed, .*no terminal/),
    },
    { code: 3, stderr: expect.stringMatching(/schema is ahead .* in a terminal: .*was renamed/) },
  ]);
  for (const undo of takeBack) undo();
  folder('core').write(`meta/${folder('core').entries.at(-1)?.tag.slice(0, 4)}_snapshot.json`, '{"broken');
  const broken = await both();
  expect(broken).toMatchObject([
    {
      code: 1,
      stderr: expect.stringMatching(/^Nothing was generated for core\. drizzle-kit says:\n.*JSON/s),
    },
    { code: 3, stderr: expect.stringMatching(/_snapshot\.json and schema\/core\.ts cannot be compared/) },
  ]);
  const path = join(root, 'schema/pshop.ts');
  writeFileSync(
    path,
    `${readFileSync(path, 'utf8')}\nexport const one = (undefined as unknown as { a: 1 }).a;\n`,
  );
  const thrown = await runCli(['generate', 'pshop', '--name', 'x'], {}, { root });
  expect(thrown).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /^Nothing was generated for pshop\. drizzle-kit says:\n.*Cannot read properties/s,
    ),
  });
  for (const { stderr } of [...renamed, ...broken, thrown]) expect(stderr).not.toMatch(/^\s+at /m);
  expect(folder('core').read('meta/_journal.json')).toBe(journal);
});

test('generate writes the migration and its down', async () => {
  const { root, folder } = copyOfProject();
  const edit = (path: string, change: (text: string) => string) =>
    writeFileSync(join(root, path), change(readFileSync(join(root, path), 'utf8')));
  edit('schema/core.ts', (text) =>
    text.replace("name: text('name').notNull()", "name: text('name').notNull(), phone: text('phone')"),
  );
  const cli = (...args: string[]) => runCli(args, {}, { root });
  const added = folder('core').nextTag('add_users_phone');
  expect(await cli('generate', 'core', '--name', 'add_users_phone')).toMatchObject({ code: 0 });
  expect(folder('core').read(`${added}.sql`)).toBe('ALTER TABLE "users" ADD COLUMN "phone" text;');
  expect(folder('core').read(`${added}.down.sql`)).toBe(
    `-- Takes back ${added}.\nALTER TABLE "users" DROP COLUMN "phone";\n`,
  );
  expect(await cli('generate', 'core', '--name', 'again')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('No schema changes'),
  });
  expect(await cli('generate', '--custom')).toMatchObject({ code: 2 });
  expect(await cli('generate', 'core', '--name', '../x')).toMatchObject({ code: 2 });
  expect(await cli('create-migration', 'pshop', 'by_hand')).toMatchObject({ code: 0 });
  expect(folder('pshop').read('0002_by_hand.down.sql')).toContain(unfinishedMark);
});

describe('deriveDown', () => {
  const down = (...statements: string[]) =>
    deriveDown(
      '0009_x',
      statements.map((text) => ({ text })),
    );

  test('undoes what is mechanical, last first', () => {
    expect(
      down(
        'CREATE TYPE "public"."mood" AS ENUM(\'a\');',
        '\nCREATE TABLE "a" (\n\t"id" int\n);\n',
        'ALTER TABLE "a" ADD COLUMN "b" text;',
        'ALTER TABLE "a" ADD CONSTRAINT "c" UNIQUE("b");',
        'CREATE UNIQUE INDEX "i" ON "a" USING btree ("b");',
        'ALTER TABLE "a" RENAME COLUMN "b" TO "d";',
        'ALTER TABLE "a" ALTER COLUMN "d" SET NOT NULL;',
      ),
    ).toBe(
      [
        '-- Takes back 0009_x.',
        'ALTER TABLE "a" ALTER COLUMN "d" DROP NOT NULL;',
        'ALTER TABLE "a" RENAME COLUMN "d" TO "b";',
        'DROP INDEX "i";',
        'ALTER TABLE "a" DROP CONSTRAINT "c";',
        'ALTER TABLE "a" DROP COLUMN "b";',
        'DROP TABLE "a";',
        'DROP TYPE "public"."mood";',
        '',
      ]
        .join('\n--> statement-breakpoint\n')
        .replace('x.\n--> statement-breakpoint\n', 'x.\n')
        .replace(/\n--> statement-breakpoint\n$/, '\n'),
    );
  });

  test('marks what a person must write', () => {
    expect(down('ALTER TABLE "a" DROP COLUMN "b";')).toContain(
      `${unfinishedMark} what takes back ALTER TABLE "a" DROP COLUMN`,
    );
    expect(down('-- Custom SQL migration file, put your code below! --')).toContain(unfinishedMark);
  });
});
