// rehearse: what pending migrations would block, rewrite and cost, measured on a copy with the rows of the database.
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { recordLocations } from '../../src/tracking/index.ts';
import { databasesBeside, everythingIn, temporaryFolder } from '../support/backups.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool } from '../support/database.ts';
import { copyOfProject } from '../support/migrations.ts';
import { point } from '../support/tracking-points.ts';

interface Migration {
  tag: string;
  relations: {
    relation: string;
    strongestLock: string;
    blocksWritesMs: number;
    blocksReadsMs: number;
    rewrittenBytes: number;
    indexesBuilt: string[];
  }[];
  rowsChanged: number;
  walBytes: number;
  diskBytes: number;
  traffic: { reads: { statements: number }; writes: { statements: number } } | null;
  acceptedReason: string | null;
  down: { durationMs: number | null; irreversibleReason: string | null; problems: string[] };
}
interface Rehearsal {
  database: string;
  backup: string | null;
  migrations: Migration[];
  problems: string[];
}

const project = copyOfProject();
const folder = project.folder('pshop');
const add = (name: string, sql: string, down: string) => folder.add(folder.nextTag(name), sql, { down });

describeWith(['pg_dump'], 'a rehearsal', () => {
  let url: string;
  let to: string;
  /** A busy machine may block longer than the default of --max-block. */
  const run = (...args: string[]) =>
    runCli(['rehearse', 'pshop', '--to', to, '--max-block', '600', ...args], environmentFor('pshop', url), {
      root: project.root,
    });
  const rehearse = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(...args, '--json');
    if (stderr !== '') throw new Error(stderr);
    const [rehearsal] = JSON.parse(stdout) as Rehearsal[];
    if (!rehearsal) throw new Error('nothing was rehearsed');
    const migrations = Object.fromEntries(
      rehearsal.migrations.map((migration) => [migration.tag.slice(5), migration]),
    );
    return { code, ...rehearsal, migrations };
  };

  beforeAll(async () => {
    url = await migratedDatabase('pshop');
    to = join(temporaryFolder(), 'backups');
    const db = openPool('pshop', url);
    await db.query(
      'INSERT INTO orders (user_id, subtotal, total) SELECT gen_random_uuid(), i % 100, i % 100 FROM generate_series(1, 20000) i',
    );
    expect(
      await runCli(['backup', 'pshop', '--to', to], environmentFor('pshop', url), { root: project.root }),
    ).toMatchObject({ code: 0 });
    await db.query('DELETE FROM orders WHERE subtotal > 50');

    add('column', 'ALTER TABLE orders ADD COLUMN note text;', 'ALTER TABLE orders DROP COLUMN note;');
    add(
      'rewrite',
      "-- Fast on the real table.\n-- blocks: at night, with the shop closed\nALTER TABLE orders ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();\n--> statement-breakpoint\nUPDATE orders SET note = 'x' WHERE subtotal < 10;",
      'ALTER TABLE orders DROP COLUMN token;',
    );
    add('index', 'CREATE INDEX orders_currency ON orders (currency);', 'DROP INDEX orders_currency;');
    add(
      'index_concurrently',
      '-- transaction: none\nCREATE INDEX CONCURRENTLY orders_total ON orders (total);',
      '-- transaction: none\nDROP INDEX CONCURRENTLY orders_total;',
    );
    add(
      'check_in_two_steps',
      '-- transaction: none\nALTER TABLE orders ADD CONSTRAINT c CHECK (total < 1000) NOT VALID;\n--> statement-breakpoint\nALTER TABLE orders VALIDATE CONSTRAINT c;',
      'ALTER TABLE orders DROP CONSTRAINT c;',
    );
    add(
      'new_table',
      '-- transaction: none\nCREATE TABLE coupons (id int PRIMARY KEY);\n--> statement-breakpoint\nCREATE INDEX CONCURRENTLY coupons_id ON coupons (id);',
      '-- irreversible: it is only a test',
    );
  });

  test('on the newest backup: locks, rewritten tables, indexes and rows of each migration', async () => {
    const { code, database, backup, migrations, problems } = await rehearse();
    expect({ code, database, problems }).toEqual({ code: 0, database: 'pshop', problems: [] });
    expect(backup).toContain(to);
    const orders = (name: string) =>
      migrations[name]?.relations.find(({ relation }) => relation === 'orders');

    expect(orders('column')).toMatchObject({ strongestLock: 'AccessExclusiveLock', rewrittenBytes: 0 });
    expect(orders('column')?.blocksReadsMs).toBeGreaterThan(0);
    expect(orders('rewrite')?.rewrittenBytes).toBeGreaterThan(1_000_000);
    expect(migrations.rewrite).toMatchObject({
      acceptedReason: 'at night, with the shop closed',
      rowsChanged: 2_000,
    });
    expect(migrations.rewrite?.diskBytes).toBeGreaterThan(1_000_000);
    expect(migrations.rewrite?.walBytes).toBeGreaterThan(100_000);
    expect(orders('index')).toMatchObject({
      strongestLock: 'ShareLock',
      blocksReadsMs: 0,
      indexesBuilt: ['orders_currency'],
    });
    expect(orders('index')?.blocksWritesMs).toBeGreaterThan(0);
    expect(orders('index_concurrently')).toMatchObject({
      strongestLock: 'ShareUpdateExclusiveLock',
      blocksWritesMs: 0,
      indexesBuilt: ['orders_total'],
    });
    // Only the first of its two transactions blocks.
    expect(orders('check_in_two_steps')).toMatchObject({ strongestLock: 'AccessExclusiveLock' });
    // A table that is new blocks nobody.
    expect(migrations.new_table).toMatchObject({
      relations: [],
      down: { durationMs: null, irreversibleReason: 'it is only a test' },
    });
    const name = new URL(url).pathname.slice(1);
    expect(await databasesBeside('pshop', name)).toEqual([]);
    expect((await openPool('pshop', url).query('SELECT * FROM orders LIMIT 1')).rows[0]).not.toHaveProperty(
      'note',
    );
  });

  test('on a dump of now, with traffic; what blocks too long is a problem, unless the file accepts it', async () => {
    const before = everythingIn(to);
    const { code, backup, migrations, problems } = await rehearse('--live', '--traffic', '--max-block', '0');
    expect({ code, backup }).toEqual({ code: 3, backup: null });
    expect(everythingIn(to)).toEqual(before);
    expect(migrations.rewrite?.rowsChanged).toBe(2_000);
    expect(problems.map((problem) => problem.split(' ')[0]?.slice(5))).toEqual(
      expect.arrayContaining(['column', 'index']),
    );
    for (const problem of problems)
      expect(problem).not.toMatch(/^\d+_(rewrite|new_table|index_concurrently)/);
    expect(migrations.rewrite?.traffic?.reads.statements).toBeGreaterThan(0);
    expect(migrations.rewrite?.traffic?.writes.statements).toBeGreaterThan(0);
  });

  test('says it in words, and a down that does not restore is a problem', async () => {
    folder.remove(`${folder.entries.at(-1)?.tag}.down.sql`);
    folder.write(`${folder.entries.at(-1)?.tag}.down.sql`, 'CREATE TABLE left_behind (id int);');
    const { code, stdout, stderr } = await run();
    expect(code).toBe(3);
    expect(stdout).toMatch(/^orders +ACCESS EXCLUSIVE +blocks reads and writes for [\d.]+ m?s$/m);
    expect(stdout).toMatch(/^orders +SHARE +blocks writes for [\d.]+ m?s; builds orders_currency$/m);
    expect(stdout).toMatch(/^no wait longer than [\d.]+ m?s, accepted: at night, with the shop closed$/m);
    expect(stdout).toContain('down: does not work, see below');
    expect(stderr).toMatch(/^\d+_new_table: the down leaves relation public\.left_behind: table$/m);
  });

  test('an invalid migration fails as it would on the real database, and leaves nothing', async () => {
    add('wrong', 'ALTER TABLE orders ADD COLUMN subtotal int;', 'SELECT 1;');
    const { code, stderr } = await run();
    expect(code).toBe(1);
    expect(stderr).toMatch(/_wrong of pshop failed and left nothing behind: .*already exists/);
    expect(stderr).not.toMatch(/^\s+at .*\.ts/m);
    expect(await databasesBeside('pshop', new URL(url).pathname.slice(1))).toEqual([]);
  });

  test('deploy --rehearse stops before it migrates', async () => {
    const { code, stdout, stderr } = await runCli(
      ['deploy', 'pshop', '--rehearse', '--json'],
      { ...environmentFor('pshop', url) },
      { root: project.root, cwd: temporaryFolder() },
    );
    const { steps } = JSON.parse(stdout) as { steps: { step: string; status: string; result: string }[] };
    expect({ code, stderr: stderr.replace(/^.*roles and grants were never applied.*\n/m, '') }).toEqual({
      code: 1,
      stderr: '',
    });
    expect(steps.map(({ step, status }) => `${step}: ${status}`)).toEqual([
      'create: not needed',
      'doctor: done',
      'backup: done',
      'rehearse: failed',
      'migrate: not started',
      'doctor again: not started',
    ]);
  });
});

// pg_dump does not work with the embedded tracking server.
describeWith(['pg_dump', 'timescaledb', 'background-workers'], 'of a hypertable', () => {
  test('chunks count as the hypertable, and what is compressed as one more', async () => {
    const own = project.folder('tracking');
    own.add(own.nextTag('battery'), 'ALTER TABLE location_events ADD COLUMN battery smallint;', {
      down: 'ALTER TABLE location_events DROP COLUMN battery;',
    });
    const url = await migratedDatabase('tracking');
    const db = openPool('tracking', url);
    const days = [20, 12, 0].map((age) => point({ time: new Date(Date.now() - age * 86_400_000) }));
    await recordLocations(db, days);
    await db.query(
      "SELECT compress_chunk(c) FROM show_chunks('location_events', older_than => INTERVAL '7 days') c",
    );
    const result = await runCli(
      ['rehearse', 'tracking', '--live', '--to', temporaryFolder(), '--max-block', '600', '--json'],
      environmentFor('tracking', url),
      { root: project.root },
    );
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const [rehearsal] = JSON.parse(result.stdout) as [Rehearsal];
    const [migration] = rehearsal.migrations as [Migration];
    const blocked = migration.relations.filter(({ blocksReadsMs }) => blocksReadsMs > 0);
    expect(blocked.map(({ relation }) => relation).sort()).toEqual(['compressed chunks', 'location_events']);
    expect(migration.down).toMatchObject({ durationMs: expect.any(Number), problems: [] });
  });
});

test('--live and --from are two ways', async () => {
  expect(await runCli(['rehearse', 'core', '--live', '--from', 'x'], {})).toMatchObject({ code: 2 });
});
