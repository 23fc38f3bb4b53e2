// restore refuses what is damaged or cannot work here, before it touches anything.
import { cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { installedPrograms } from '../../scripts/backup/client/versions.ts';
import { BackupError } from '../../scripts/backup/errors.ts';
import { findBackup } from '../../scripts/backup/library/backups.ts';
import { requireRestorable } from '../../scripts/backup/restore/requirements.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { databasesBeside, readManifest, temporaryFolder, writeManifest } from '../support/backups.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, serverUrl } from '../support/database.ts';

const key = 'atriz';

describeWith(['pg_dump'], 'with pg_dump', () => {
  let name: string;
  let environment: Record<string, string>;
  let original: string;
  /** A copy of the backup that a test may damage. */
  let folder: string;
  const restore = (...args: string[]) => runCli(['restore', folder, ...args], environment);
  const profiles = async () => {
    await using pool = createDatabasePool({ connectionString: serverUrl(key, name), max: 1 });
    return (await pool.query('SELECT 1 FROM user_profiles')).rowCount;
  };
  const beside = () => databasesBeside(key, name);

  beforeAll(async () => {
    const url = await migratedDatabase(key);
    name = new URL(url).pathname.slice(1);
    environment = environmentFor(key, url);
    await using pool = createDatabasePool({ connectionString: url, max: 1 });
    await pool.query('INSERT INTO user_profiles (user_id) VALUES (gen_random_uuid())');
    await pool.close();
    const made = await runCli(['backup', key, '--to', temporaryFolder(), '--json'], environment);
    original = JSON.parse(made.stdout).folder;
  });

  beforeEach(() => {
    folder = join(temporaryFolder(), 'copy');
    cpSync(original, folder, { recursive: true });
  });

  const damages: [string, (dump: string) => void, RegExp][] = [
    ['a flipped bit', (dump) => flip(dump), /its SHA-256 differs/],
    ['a truncated file', (dump) => truncateSync(dump, 1000), /has 1000 bytes, its manifest says/],
    [
      'a missing file',
      () => change(({ dump }) => ({ dump: { ...dump, name: 'gone.dump' } })),
      /gone\.dump is missing/,
    ],
    [
      'a path out of the folder',
      () => change(({ dump }) => ({ dump: { ...dump, name: '../core.dump' } })),
      /name of a file in the same folder/,
    ],
    [
      'the dump of another database',
      () => change(() => ({ database: 'atriz_core' })),
      /is a dump of atriz_test.*says that it is atriz_core/,
    ],
    [
      'a manifest that is not JSON',
      () => writeFileSync(join(folder, 'manifest.json'), '{"format'),
      /is not JSON/,
    ],
    [
      'an unknown format',
      () => writeManifest(folder, { ...readManifest(folder), format: 'atriz-backup-9' }),
      /Expected "atriz-backup-1"/,
    ],
    [
      'a dump of a newer server',
      () => change(() => ({ server: { version: '99.1', major: 99 } })),
      /was dumped on PostgreSQL 99\.1/,
    ],
    [
      'an extension that the server lacks',
      () => change(() => ({ extensions: [{ name: 'nowhere', version: '1' }] })),
      /needs the extension nowhere/,
    ],
    [
      'a role that the server lacks',
      () => change(() => ({ roles: ['nobody_here'] })),
      /no role nobody_here.*--no-roles/,
    ],
  ];
  const flip = (path: string) => {
    const bytes = readFileSync(path);
    const place = Math.floor(bytes.length / 2);
    bytes[place] = (bytes[place] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  };
  const change = (edit: (database: ReturnType<typeof readManifest>['databases'][number]) => object) => {
    const manifest = readManifest(folder);
    writeManifest(folder, {
      ...manifest,
      databases: manifest.databases.map((one) => ({ ...one, ...edit(one) })),
    });
  };

  /** What restore does before it creates a database. */
  const check = async () => {
    await using maintenance = createDatabasePool({ connectionString: serverUrl(key, 'postgres'), max: 1 });
    const { signal } = new AbortController();
    const { manifest } = await findBackup(folder, folder, []);
    for (const database of manifest.databases) {
      await requireRestorable(folder, database, maintenance, {
        installed: await installedPrograms(),
        withRoles: true,
        signal,
      });
    }
  };

  test.each(damages)('%s', async (_, damage, reason) => {
    await check();
    damage(join(folder, `${key}.dump`));
    await expect(check()).rejects.toThrow(BackupError);
    await expect(check()).rejects.toThrow(reason);
  });

  test('by the command line: exit 1, the old database as it was, and nothing beside it', async () => {
    flip(join(folder, `${key}.dump`));
    expect(await restore('--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('its SHA-256 differs'),
    });
    expect(await beside()).toEqual([]);
    expect(await profiles()).toBe(1);
  });

  test('a manifest that lies about rows: found after the restore, before the swap', async () => {
    change(({ tables }) => ({
      tables: tables.map((table) => (table.name === 'public.user_profiles' ? { ...table, rows: 4 } : table)),
    }));
    expect(await restore('--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('public.user_profiles has 1 row, the backup says 4'),
    });
    expect(await beside()).toEqual([]);
    expect(await profiles()).toBe(1);
  });

  test('a folder that is not a backup, and a database that the backup does not hold', async () => {
    expect(await runCli(['restore', temporaryFolder(), '--yes'], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is not a backup'),
    });
    expect(await restore('core', '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('does not hold core'),
    });
    expect(
      await runCli(['restore', 'latest', '--in', temporaryFolder(), '--yes'], environment),
    ).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('There is no backup'),
    });
  });
});
