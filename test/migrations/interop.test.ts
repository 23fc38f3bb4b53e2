// Ours and drizzle-kit's migrator are interchangeable at any point: same catalog, same rows.
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as drizzleMigrate } from 'drizzle-orm/postgres-js/migrator';
import postgres from 'postgres';
import { beforeAll, describe, expect, test } from 'vitest';
import { readCatalog } from '../../scripts/catalog/catalog.ts';
import { type DatabaseKey, databaseKeys } from '../../src/databases.ts';
import { migrationsFolder } from '../../src/migrations/files.ts';
import { migrate, readMigrations } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { environmentFor, run } from '../support/cli.ts';
import { emptyDatabase, openSessionPool, possibleKeys } from '../support/database.ts';
import { copyOfProject } from '../support/migrations.ts';

async function kitMigrate(key: DatabaseKey, url: string, root: string): Promise<void> {
  const config = ['core', 'tracking'].includes(key) ? `drizzle.${key}.config.ts` : 'drizzle.apps.config.ts';
  const { code, stdout, stderr } = await run(
    process.execPath,
    ['node_modules/drizzle-kit/bin.cjs', 'migrate', '--config', config],
    { ...environmentFor(key, url), APP: key },
    root,
  );
  expect(`${code} ${stderr} ${stdout}`).toMatch(/^0 .*migrations applied successfully/s);
}

/** What `drizzle-kit migrate` runs, without the second that its command takes to start. */
async function kitMigrator(url: string, migrationsFolder: string): Promise<void> {
  const client = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await drizzleMigrate(drizzle(client), { migrationsFolder });
  } finally {
    await client.end();
  }
}

const recorded = async (pool: Pool) =>
  (await pool.query('SELECT id, hash, created_at FROM drizzle.__drizzle_migrations ORDER BY id')).rows;

describe.each(databaseKeys)('%s', (key) => {
  test.skipIf(!possibleKeys().includes(key))(
    'drizzle-kit alone makes the same database as our runner alone, and each finds nothing to do after the other',
    async () => {
      const { root } = copyOfProject();
      const [theirUrl, ourUrl] = [await emptyDatabase(key), await emptyDatabase(key)];
      const [theirs, ours] = [openSessionPool(key, theirUrl), openSessionPool(key, ourUrl)];
      await kitMigrate(key, theirUrl, root);
      expect(await migrate(ours, key)).toHaveLength(readMigrations(key).length);

      const catalog = await readCatalog(ours);
      expect(catalog.length).toBeGreaterThan(20);
      expect(await readCatalog(theirs)).toEqual(catalog);
      expect(await recorded(theirs)).toEqual(await recorded(ours));

      expect(await migrate(theirs, key)).toEqual([]);
      await kitMigrator(ourUrl, migrationsFolder(key));
      expect(await recorded(ours)).toHaveLength(readMigrations(key).length);
      expect(await readCatalog(ours)).toEqual(catalog);
    },
  );
});

describe('any split between the two', () => {
  const project = copyOfProject();
  const folder = project.folder('atriz');
  for (const name of ['c', 'd']) {
    folder.add(`000${folder.entries.length}_${name}`, `CREATE TABLE ${name} (id int PRIMARY KEY);`);
  }
  const all = folder.entries;
  let catalog: string[];
  let rows: object[];
  beforeAll(async () => {
    const pool = openSessionPool('atriz', await emptyDatabase('atriz'));
    await migrate(pool, 'atriz', { folder: folder.path });
    [catalog, rows] = [await readCatalog(pool), await recorded(pool)];
  });

  // Who applies each of the four: all ways in which the migrator changes at least twice.
  test.each(['kokk', 'okok', 'kkok', 'okko', 'kook', 'ooko'])('%s (k drizzle-kit, o ours)', async (turns) => {
    const url = await emptyDatabase('atriz');
    const pool = openSessionPool('atriz', url);
    for (const [index, turn] of [...turns].entries()) {
      if (turn === 'o') await migrate(pool, 'atriz', { folder: folder.path, to: all[index]?.tag });
      else {
        // drizzle-kit has no --to: it sees a journal that ends here.
        folder.entries = all.slice(0, index + 1);
        await kitMigrator(url, folder.path);
        folder.entries = all;
      }
    }
    expect(await readCatalog(pool)).toEqual(catalog);
    expect(await recorded(pool)).toEqual(rows);
  });
});

test('what drizzle-kit skips in silence after a late merge, our runner reports and applies on demand', async () => {
  const project = copyOfProject();
  const folder = project.folder('atriz');
  const url = await emptyDatabase('atriz');
  const pool = openSessionPool('atriz', url);
  await kitMigrator(url, folder.path);
  folder.add('0002_late', 'CREATE TABLE late (id int);', { when: (folder.entries[0]?.when ?? 0) + 1 });
  await kitMigrate('atriz', url, project.root);
  const late = async () =>
    (await pool.query("SELECT to_regclass('late') IS NOT NULL AS found")).rows[0]?.found;
  expect(await late()).toBe(false);
  await expect(migrate(pool, 'atriz', { folder: folder.path })).rejects.toMatchObject({
    exitCode: 3,
    message: expect.stringContaining('0002_late of atriz is older than the latest applied migration'),
  });
  await migrate(pool, 'atriz', { folder: folder.path, allowOutOfOrder: true });
  expect(await late()).toBe(true);
  await kitMigrator(url, folder.path);
});
