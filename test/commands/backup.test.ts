// backup: one folder per run that is whole or absent, whatever goes wrong in between.
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { findBackup } from '../../scripts/backup/library/backups.ts';
import { selectForBackup } from '../../scripts/commands/backup.ts';
import { databaseKeys } from '../../src/databases.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import { createDatabasePool } from '../../src/pool.ts';
import {
  everythingIn,
  filledCore,
  readManifest,
  temporaryFolder,
  wrappedPgDump,
  writeManifest,
} from '../support/backups.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool, plainKeys } from '../support/database.ts';

test('without names it takes what is critical; tracking where it is named or asked for', () => {
  expect(plainKeys).toEqual(expect.arrayContaining(['core', 'atriz', 'mextrack', 'pshop']));
  expect(selectForBackup([], {})).toEqual(plainKeys);
  expect(selectForBackup([], { includeTracking: true })).toEqual(databaseKeys);
  expect(selectForBackup(['tracking'], {})).toEqual(['tracking']);
  expect(selectForBackup(['core'], { schemaOnly: true })).toEqual(['core', 'tracking']);
});

describeWith(['pg_dump'], 'with pg_dump', () => {
  let url: string;
  let environment: Record<string, string>;
  const backup = (to: string, ...args: string[]) =>
    runCli(['backup', 'core', '--to', to, ...args], environment);
  const list = async (to: string) =>
    JSON.parse((await runCli(['backup', '--list', '--json', '--to', to], {})).stdout);

  beforeAll(async () => {
    url = await filledCore();
    environment = environmentFor('core', url);
  });

  test('several databases become one folder with a manifest, which --list shows', async () => {
    const to = join(temporaryFolder(), 'deep', 'backups');
    const both = { ...environment, ...environmentFor('atriz', await migratedDatabase('atriz')) };
    const made = await runCli(['backup', 'core', 'atriz', '--to', to, '--json'], both);
    expect(made).toMatchObject({ code: 0, stderr: '' });
    const { folder } = JSON.parse(made.stdout);
    expect(everythingIn(to)).toHaveLength(1);
    expect(everythingIn(folder)).toEqual([
      'atriz.catalog.json',
      'atriz.dump',
      'core.catalog.json',
      'core.dump',
      'manifest.json',
    ]);
    expect(statSync(folder).mode & 0o077).toBe(0);
    const [core] = readManifest(folder).databases;
    expect(core).toMatchObject({
      key: 'core',
      holds: 'everything',
      server: { version: expect.stringMatching(/^\d+\.\d+$/) },
      pgDump: { version: expect.stringMatching(/^\d+\.\d+$/) },
      migrations: readMigrations('core').map(({ tag }) => ({ tag })),
      dump: {
        bytes: statSync(join(folder, 'core.dump')).size,
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
    expect(core?.tables).toContainEqual({ name: 'public.users', rows: 4000, checksum: expect.any(String) });
    expect(await list(to)).toMatchObject([
      { folder, databases: [{ key: 'core' }, { key: 'atriz' }], ageSeconds: expect.any(Number) },
    ]);
    expect((await runCli(['backup', '--list', '--to', to], {})).stdout).toMatch(/core, atriz/);
  });

  test('rows are counted in the snapshot that is dumped, while others write', async () => {
    const to = temporaryFolder();
    await using writer = createDatabasePool({ connectionString: url, max: 1 });
    let writing = true;
    const writes = (async () => {
      for (let i = 0; writing; i += 1) {
        await writer.query("INSERT INTO roles (name) VALUES ('role ' || $1)", [i]);
        await writer.query("UPDATE users SET name = $1 WHERE email = 'user1@example.com'", [`renamed ${i}`]);
      }
    })();
    const made = await backup(to, '--json');
    writing = false;
    await writes;
    expect(made).toMatchObject({ code: 0, stderr: '' });
    const drilled = await runCli(['drill', '--from', JSON.parse(made.stdout).folder], environment);
    expect(drilled).toMatchObject({ code: 0, stderr: '' });
  });

  test('the password goes by the environment, not by the arguments', async () => {
    const log = join(temporaryFolder(), 'log');
    const PG_BIN = await wrappedPgDump(url, `echo "$@" > ${log}\necho "$PGPASSWORD" > ${log}.password`);
    const secret = url.replace(/^(\w+:\/\/)[^@/]*@/, '$1postgres:postgres@');
    const result = await runCli(['backup', 'core', '--to', temporaryFolder()], {
      ...environmentFor('core', secret),
      PG_BIN,
    });
    expect(result).toMatchObject({ code: 0 });
    expect(readFileSync(log, 'utf8')).toContain('--format=custom');
    expect(readFileSync(log, 'utf8')).not.toMatch(/postgres:|:\/\//);
    expect(readFileSync(`${log}.password`, 'utf8')).toBe('postgres\n');
  });

  test('two backups at once do not disturb each other', async () => {
    const to = temporaryFolder();
    const results = await Promise.all([backup(to), backup(to)]);
    expect(results).toMatchObject([
      { code: 0, stderr: '' },
      { code: 0, stderr: '' },
    ]);
    expect(await list(to)).toHaveLength(2);
  });

  test('latest is the newest that holds what is asked for, as a deployment backs up some databases only', async () => {
    const to = temporaryFolder();
    const core = JSON.parse((await backup(to, '--json')).stdout) as { folder: string };
    const later = (startedAt: string, keys: string[]) => {
      const folder = join(to, startedAt.replaceAll(':', '-'));
      cpSync(core.folder, folder, { recursive: true });
      const manifest = readManifest(folder);
      const [database] = manifest.databases;
      writeManifest(folder, { ...manifest, startedAt, databases: keys.map((key) => ({ ...database, key })) });
      return folder;
    };
    const whole = later('2126-01-01T00:00:00.000Z', plainKeys);
    const some = later('2126-01-02T00:00:00.000Z', ['atriz', 'mextrack']);
    const latest = async (...names: string[]) => (await findBackup('latest', to, names)).folder;
    expect(await latest()).toBe(whole);
    expect(await latest('core')).toBe(whole);
    expect(await latest('atriz', 'mextrack')).toBe(some);
    await expect(latest('core', 'tracking')).rejects.toThrow(`no backup in ${to} that holds core, tracking`);
    rmSync(whole, { recursive: true });
    expect(await latest('core')).toBe(core.folder);
    expect(await latest()).toBe(some);
  });

  test('--keep-daily and --keep-weekly remove old complete backups, and nothing that is not ours', async () => {
    const to = temporaryFolder();
    const first = JSON.parse((await backup(to, '--json')).stdout) as { folder: string };
    const dated = (startedAt: string) => {
      const folder = join(to, startedAt.replaceAll(':', '-'));
      cpSync(first.folder, folder, { recursive: true });
      writeManifest(folder, { ...readManifest(folder), startedAt });
      return folder;
    };
    const days = ['2026-01-05', '2026-01-06', '2026-01-07'].map((day) => dated(`${day}T02:00:00.000Z`));
    const damaged = dated('2026-01-01T02:00:00.000Z');
    copyFileSync(join(first.folder, 'manifest.json'), join(damaged, 'core.dump'));
    for (const name of ['2026-01-02T02-00-00.000Z', 'mine']) {
      mkdirSync(join(to, name));
      writeFileSync(join(to, name, 'notes.txt'), 'not a backup');
    }
    const made = JSON.parse((await backup(to, '--keep-daily', '2', '--keep-weekly', '1', '--json')).stdout);
    expect(made.removed.sort()).toEqual(
      days
        .slice(0, 2)
        .concat(first.folder)
        .filter((folder) => made.removed.includes(folder))
        .sort(),
    );
    expect(made.removed).toEqual(expect.arrayContaining(days.slice(0, 2)));
    const left = everythingIn(to).map((name) => join(to, name));
    expect(left).toEqual(
      expect.arrayContaining([
        made.folder,
        days[2],
        damaged,
        join(to, 'mine'),
        join(to, '2026-01-02T02-00-00.000Z'),
      ]),
    );
    const listed = await runCli(['backup', '--list', '--to', to], {});
    expect(listed.stderr).toContain(`${damaged} is not listed`);
    expect(listed.stdout).not.toContain(damaged);
  });
});

describeWith(['pg_dump', 'timescaledb', 'concurrent-sessions'], 'tracking on a native server', () => {
  test('--schema-only keeps hypertable, policies and the record of migrations, without the points', async () => {
    const url = await migratedDatabase('tracking');
    const environment = environmentFor('tracking', url);
    await openPool('tracking', url).query(
      `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude)
       SELECT now() - i * interval '1 hour', gen_random_uuid(), gen_random_uuid(), 'mextrack', 1, 1 FROM generate_series(1, 100) i`,
    );
    const to = temporaryFolder();
    expect(await runCli(['backup', 'tracking', '--schema-only', '--to', to], environment)).toMatchObject({
      code: 0,
    });
    expect(await runCli(['drill', '--from', 'latest', '--to', to], environment)).toMatchObject({
      code: 0,
      stderr: '',
    });
  });
});
