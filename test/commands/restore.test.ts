// restore: whole or not at all, and the old database is there until the new one has taken its place.
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { createDatabasePool } from '../../src/pool.ts';
import { databasesBeside, readManifest, temporaryFolder, writeManifest } from '../support/backups.ts';
import { environmentFor, runCli, startCli } from '../support/cli.ts';
import { describeWith, maintain, migratedDatabase, serverUrl, uniqueName } from '../support/database.ts';
import { applyMends, examine } from '../support/doctor.ts';

const key = 'atriz';
const nameOf = (url: string) => decodeURIComponent(url.split('/').at(-1)?.split('?')[0] ?? '');

/** One connection that does not outlive its query: an open one would keep a restore from replacing. */
async function query(url: string, text: string, parameters: unknown[] = []) {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  return (await pool.query(text, parameters)).rows;
}

const addProfiles = (url: string, count: number) =>
  query(
    url,
    `INSERT INTO user_profiles (user_id, display_name) SELECT gen_random_uuid(), 'Person ' || i FROM generate_series(1, $1::int) i`,
    [count],
  );
const profiles = async (url: string) =>
  (await query(url, 'SELECT count(*)::int AS count FROM user_profiles'))[0]?.count;

describeWith(['pg_dump'], 'with pg_dump', () => {
  let url: string;
  let environment: Record<string, string>;
  let original: string;
  /** A copy of the backup that a test may damage. */
  let folder: string;
  const restore = (...args: string[]) => runCli(['restore', folder, ...args], environment);
  const beside = () => databasesBeside(key, nameOf(url));

  beforeAll(async () => {
    url = await migratedDatabase(key);
    environment = environmentFor(key, url);
    await addProfiles(url, 3);
    const name = nameOf(url);
    await query(url, `ALTER DATABASE "${name}" SET random_page_cost = 1.1`);
    await query(url, `ALTER DATABASE "${name}" SET search_path = "$user", public, "odd, one"`);
    await query(url, `ALTER DATABASE "${name}" CONNECTION LIMIT 50`);
    await query(url, `COMMENT ON DATABASE "${name}" IS 'it''s ours \\ yours'`);
    await query(url, `REVOKE CONNECT ON DATABASE "${name}" FROM PUBLIC`);
    await query(url, `GRANT CONNECT ON DATABASE "${name}" TO pg_monitor WITH GRANT OPTION`);
    const made = await runCli(['backup', key, '--to', temporaryFolder(), '--json'], environment);
    original = JSON.parse(made.stdout).folder;
  });

  beforeEach(() => {
    folder = join(temporaryFolder(), 'copy');
    cpSync(original, folder, { recursive: true });
  });

  test('rows, settings, grants and comment come back; the old database is kept under another name', async () => {
    const describeDatabase = `SELECT (SELECT array_agg(a ORDER BY a) FROM unnest(datacl::text[]) a) AS grants, datconnlimit, shobj_description(d.oid, 'pg_database') AS comment,
        (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0) AS settings
      FROM pg_database d WHERE datname = current_database()`;
    const before = await query(url, describeDatabase);
    await query(url, 'DELETE FROM user_profiles');
    const result = await restore('--yes', '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const [{ keptAs }] = JSON.parse(result.stdout).databases;
    expect(JSON.parse(result.stdout).databases).toMatchObject([{ key, database: nameOf(url), pending: [] }]);
    expect(await profiles(url)).toBe(3);
    expect(await query(url, describeDatabase)).toEqual(before);
    expect(await beside()).toEqual([keptAs]);
    expect(await profiles(serverUrl(key, keptAs))).toBe(0);
    {
      await using pool = createDatabasePool({ connectionString: url, max: 1 });
      // The doctor names it until its mend is applied.
      const found = await examine(pool, key, 'kept-databases');
      expect(found).toMatchObject([{ severity: 'warning', reason: expect.stringContaining(keptAs) }]);
      await applyMends(pool, found);
      expect(await examine(pool, key, 'kept-databases')).toEqual([]);
    }
    expect(await beside()).toEqual([]);
  });

  test('a manifest that names a database twice is refused before anything is restored', async () => {
    const manifest = readManifest(folder);
    writeManifest(folder, { ...manifest, databases: [...manifest.databases, ...manifest.databases] });
    const refused = await restore('--yes');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(`it names ${key} twice`) });
    expect([await beside(), await profiles(url)]).toEqual([[], 3]);
  });

  test('--drop-old keeps nothing; --into restores beside, and never over a database that exists', async () => {
    await addProfiles(url, 1);
    const result = await restore(key, '--drop-old', '--yes');
    expect(result).toMatchObject({ code: 0, stdout: expect.stringContaining('restored') });
    expect(await beside()).toEqual([]);
    await addProfiles(url, 1);
    const into = uniqueName(key);
    expect(await restore('--into', into)).toMatchObject({ code: 0 });
    expect(await profiles(serverUrl(key, into))).toBe(3);
    expect(await profiles(url)).toBe(4);
    expect(await restore('--into', into)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('exists already'),
    });
  });

  test('a database that does not exist any more is restored without asking', async () => {
    await maintain(key, `DROP DATABASE "${nameOf(url)}"`);
    expect(await restore()).toMatchObject({ code: 0, stderr: '' });
    expect(await profiles(url)).toBe(3);
  });

  test('what a restore left that was killed before it could mark its database is dropped by the next one', async () => {
    const left = `${nameOf(url)}_restore_0badcafe`;
    await maintain(key, `CREATE DATABASE "${left}" TEMPLATE template0 ALLOW_CONNECTIONS false`);
    expect(await beside()).toEqual([left]);
    expect(await restore('--yes', '--drop-old')).toMatchObject({ code: 0 });
    expect(await beside()).toEqual([]);
  });

  test('replacing needs a second word, and in production it has to be --yes', async () => {
    expect(await restore()).toMatchObject({ code: 2, stderr: expect.stringContaining('add --yes') });
    const production = { ...environment, NODE_ENV: 'production' };
    expect(await runCli(['restore', folder, '--into', 'x'], production)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('"production"'),
    });
    expect(await beside()).toEqual([]);
  });

  test('who is connected is listed, and ended only by --force', async () => {
    await using other = createDatabasePool({ connectionString: url, applicationName: 'the shop', max: 1 });
    await other.query('SELECT 1');
    const refused = await restore('--yes');
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/is in use.*\d+ {2}\w+ {2}the shop.*--force/s),
    });
    expect(await beside()).toEqual([]);
    expect(await restore('--yes', '--force', '--drop-old')).toMatchObject({ code: 0 });
    expect(await profiles(url)).toBe(3);
  });

  test('--no-roles leaves owners and grants out, where a role is missing', async () => {
    const source = await migratedDatabase(key);
    const role = `${nameOf(source)}_role`;
    await query(source, `CREATE ROLE "${role}"`);
    const own = environmentFor(key, source);
    try {
      await query(source, `GRANT SELECT ON user_profiles TO "${role}"`);
      const made = await runCli(['backup', key, '--to', temporaryFolder(), '--json'], own);
      folder = JSON.parse(made.stdout).folder;
    } finally {
      await query(source, `DROP OWNED BY "${role}"`);
      await query(source, `DROP ROLE "${role}"`);
    }
    const into = uniqueName(key);
    expect(await runCli(['restore', folder, '--into', into], own)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`no role ${role}`),
    });
    expect(await runCli(['restore', folder, '--into', into, '--no-roles'], own)).toMatchObject({ code: 0 });
  });

  test('a restore that fails half-way, or is told to end, leaves the old database as it was', async () => {
    const source = await migratedDatabase(key);
    const own = environmentFor(key, source);
    // Dumps well and restores never: pg_restore has no search path, and the function relies on one.
    await query(source, 'CREATE TABLE words (word text)');
    await query(
      source,
      "CREATE FUNCTION is_known(text) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM user_profiles)'",
    );
    await addProfiles(source, 1);
    await query(source, "INSERT INTO words VALUES ('a')");
    await query(source, 'ALTER TABLE words ADD CHECK (is_known(word))');
    const made = await runCli(['backup', key, '--to', temporaryFolder(), '--json'], own);
    const { folder } = JSON.parse(made.stdout);
    expect(await runCli(['restore', folder, '--yes'], own)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/what was there is as it was: pg_restore failed.*user_profiles/s),
    });
    expect(await databasesBeside(key, nameOf(source))).toEqual([]);
    expect(await profiles(source)).toBe(1);
    expect(await runCli(['drill', '--from', folder], own)).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('pg_restore failed'),
    });
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    '%s in the middle: the old database stays, and nothing beside it for long',
    async (signal) => {
      const source = await migratedDatabase(key);
      const own = environmentFor(key, source);
      await addProfiles(source, 5_000);
      const made = await runCli(['backup', key, '--to', temporaryFolder(), '--json'], own);
      const args = ['restore', JSON.parse(made.stdout).folder, '--yes', '--drop-old'];
      const { child, ended } = startCli(args, own);
      while ((await databasesBeside(key, nameOf(source))).length === 0) await sleep(10);
      child.kill(signal);
      const { code } = await ended;
      expect(code).toBe(signal === 'SIGTERM' ? 1 : null);
      expect(await profiles(source)).toBe(5_000);
      if (signal === 'SIGTERM') expect(await databasesBeside(key, nameOf(source))).toEqual([]);
      expect(await runCli(args, own)).toMatchObject({ code: 0 });
      expect(await databasesBeside(key, nameOf(source))).toEqual([]);
    },
  );
});
