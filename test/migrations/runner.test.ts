// The runner: in order, once, alone, whole migrations only, and interchangeable with drizzle-kit.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type DatabaseKey, databaseKeys } from '../../src/databases.ts';
import { MigrationError } from '../../src/index.ts';
import { readCatalog } from '../../src/migrations/catalog.ts';
import { getMigrationStatus, migrate, readMigrations } from '../../src/migrations/index.ts';
import { migrationsFolder } from '../../src/migrations/journal.ts';
import { packageRoot } from '../../src/package-root.ts';
import { environmentFor, run } from '../support/cli.ts';
import { emptyDatabase, openPool, possibleKeys } from '../support/database.ts';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A copy of a database's migrations with one more at its end. */
function withMigration(key: DatabaseKey, tag: string, sql: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-migrations-'));
  folders.push(folder);
  cpSync(migrationsFolder(key), folder, { recursive: true });
  const path = join(folder, 'meta', '_journal.json');
  const journal = JSON.parse(readFileSync(path, 'utf8')) as { entries: { idx: number; when: number }[] };
  const last = journal.entries.at(-1) ?? { idx: -1, when: 0 };
  journal.entries.push({ ...last, idx: last.idx + 1, when: last.when + 1000, ...{ tag } });
  writeFileSync(path, JSON.stringify(journal));
  writeFileSync(join(folder, `${tag}.sql`), sql);
  return folder;
}

async function kitMigrate(key: DatabaseKey, url: string): Promise<void> {
  const root = packageRoot();
  const config = ['core', 'tracking'].includes(key) ? `drizzle.${key}.config.ts` : 'drizzle.apps.config.ts';
  const { code, stdout, stderr } = await run(
    process.execPath,
    [join(root, 'node_modules/drizzle-kit/bin.cjs'), 'migrate', '--config', config],
    { ...environmentFor(key, url), APP: key },
    root,
  );
  expect(`${code} ${stderr} ${stdout}`).toMatch(/^0 .*migrations applied successfully/s);
}

describe.each(databaseKeys)('%s', (key) => {
  test.skipIf(!possibleKeys().includes(key))(
    'is the same database whether drizzle-kit or our runner migrated it, and each finds nothing to do after the other',
    async () => {
      const [theirUrl, ourUrl] = [await emptyDatabase(key), await emptyDatabase(key)];
      const [theirs, ours] = [openPool(key, theirUrl), openPool(key, ourUrl)];
      await kitMigrate(key, theirUrl);
      expect(await migrate(ours, key)).toHaveLength(readMigrations(key).length);

      const catalog = await readCatalog(ours);
      expect(catalog.length).toBeGreaterThan(20);
      expect(await readCatalog(theirs)).toEqual(catalog);
      const recorded = (pool: typeof ours) =>
        pool.query('SELECT id, hash, created_at FROM drizzle.__drizzle_migrations ORDER BY id');
      expect((await recorded(theirs)).rows).toEqual((await recorded(ours)).rows);

      expect(await migrate(theirs, key)).toEqual([]);
      await kitMigrate(key, ourUrl);
      expect((await recorded(ours)).rowCount).toBe(readMigrations(key).length);
      expect(await readCatalog(ours)).toEqual(catalog);
    },
    60_000,
  );
});

test('a failed migration leaves nothing of itself and is named with file and line; the earlier ones stay', async () => {
  const pool = openPool('atriz', await emptyDatabase('atriz'));
  const sql = 'CREATE TABLE half (id int);\n--> statement-breakpoint\n\nSELECT 1,\n  nonsense;\n';
  const folder = withMigration('atriz', '0002_broken', sql);
  const error = await migrate(pool, 'atriz', { folder }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(MigrationError);
  expect(String(error)).toMatch(/0002_broken of atriz.*"nonsense" does not exist.*0002_broken\.sql:5/);
  expect((await pool.query("SELECT to_regclass('half') AS half")).rows).toEqual([{ half: null }]);
  const state = await getMigrationStatus(pool, 'atriz', folder);
  expect(state.applied.map(({ tag }) => tag)).toEqual(['0000_tables', '0001_triggers_and_comments']);
  expect(state.pending.map(({ tag }) => tag)).toEqual(['0002_broken']);
  // The lock is free again.
  writeFileSync(join(folder, '0002_broken.sql'), 'CREATE TABLE whole (id int);');
  expect((await migrate(pool, 'atriz', { folder })).map(({ tag }) => tag)).toEqual(['0002_broken']);
});

test('eight migrators at once apply each migration once', async () => {
  const url = await emptyDatabase('pshop');
  const applied = await Promise.all(
    Array.from({ length: 8 }, () => migrate(openPool('pshop', url), 'pshop')),
  );
  expect(applied.map((migrations) => migrations.length).sort()).toEqual([0, 0, 0, 0, 0, 0, 0, 2]);
});

test('the status of an empty database changes nothing in it', async () => {
  const pool = openPool('core', await emptyDatabase('core'));
  const { applied, pending } = await getMigrationStatus(pool, 'core');
  expect([applied.length, pending.length]).toEqual([0, 2]);
  expect((await pool.query("SELECT to_regnamespace('drizzle') AS drizzle")).rows).toEqual([
    { drizzle: null },
  ]);
});

test('an edited file and a row without a file show in the status', async () => {
  const pool = openPool('atriz', await emptyDatabase('atriz'));
  const folder = withMigration('atriz', '0002_more', 'SELECT 1;');
  await migrate(pool, 'atriz', { folder });
  writeFileSync(join(folder, '0002_more.sql'), 'SELECT 2;');
  expect((await getMigrationStatus(pool, 'atriz', folder)).edited.map(({ tag }) => tag)).toEqual([
    '0002_more',
  ]);
  expect((await getMigrationStatus(pool, 'atriz')).orphaned).toHaveLength(1);
});

test('a folder without a journal, and a journal without its file, are named', () => {
  expect(() => readMigrations('core', '/nonexistent')).toThrow(/core has no migrations: .*_journal\.json/);
  const folder = withMigration('core', '0002_gone', '');
  rmSync(join(folder, '0002_gone.sql'));
  expect(() => readMigrations('core', folder)).toThrow(/journal of core names 0002_gone/);
});
