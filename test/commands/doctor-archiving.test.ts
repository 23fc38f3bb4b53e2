// The checks of the doctor about WAL archiving and pgBackRest: each finding provoked, its mend applied, and gone.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { thresholds } from '../../scripts/doctor/thresholds.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { temporaryFolder } from '../support/backups.ts';
import { runCli } from '../support/cli.ts';
import { testPool } from '../support/database.ts';
import { applyMends, examine, takeOver } from '../support/doctor.ts';
import { type OwnServer, startOwnServer } from '../support/own-server.ts';
import { type ArchivedServer, findArchivable, startArchivedServer } from '../support/pgbackrest.ts';

const error = { severity: 'error' };
const keepsWal = 'the server keeps this WAL until its disk is full';

afterAll(() => {
  vi.unstubAllEnvs();
});

describe('an archiver', () => {
  const folder = temporaryFolder();
  // The server may run as another user.
  chmodSync(folder, 0o755);
  let server: OwnServer;
  let db: Pool;
  let plainRole: Pool;
  beforeAll(async () => {
    server = await startOwnServer(undefined, { settings: { archive_mode: 'on' } });
    db = createDatabasePool({ connectionString: server.url, max: 2 });
    await db.query("ALTER SYSTEM SET archive_timeout = '1h'");
    await db.query('SELECT pg_reload_conf()');
    await db.query("CREATE ROLE looks LOGIN PASSWORD 'looks'");
    const url = server.url.replace('postgres:postgres@', 'looks:looks@');
    plainRole = createDatabasePool({ connectionString: url, max: 1 });
  });
  afterAll(async () => {
    await plainRole?.close();
    await db?.close();
    await server?.stop();
  });

  const find = (limits = thresholds.archiver, pool = db) =>
    examine(pool, 'core', 'archiver', { archiver: limits });
  /** Nothing may wait at all. */
  const none = { segments: 0, seconds: 0 };
  const setCommand = async (command: string) => {
    await db.query(`ALTER SYSTEM SET archive_command = '${command}'`);
    await db.query('SELECT pg_reload_conf()');
    await expect
      .poll(async () => (await db.query("SELECT current_setting('archive_command') AS command")).rows)
      .toEqual([{ command }]);
  };
  /** A segment that waits to be archived. */
  const fillSegment = () => db.query('SELECT txid_current(), pg_switch_wal()');
  const archived = () =>
    expect
      .poll(
        async () =>
          (
            await db.query(
              'SELECT FROM pg_stat_archiver WHERE last_archived_time > last_failed_time OR archived_count > 0 AND failed_count = 0',
            )
          ).rowCount,
      )
      .toBe(1);

  test('that has no command', async () => {
    const findings = await find();
    expect(findings).toEqual([
      {
        ...error,
        reason: `archive_mode is on, but archive_command and archive_library are empty: nothing is archived, ${keepsWal}`,
        mend: "ALTER SYSTEM SET archive_command = 'pgbackrest --stanza=main archive-push %p'; SELECT pg_reload_conf()",
        note: 'or ALTER SYSTEM SET archive_mode = off, and restart the server',
      },
    ]);
    await applyMends(db, findings);
    await expect
      .poll(async () => (await find()).map(({ reason }) => reason))
      .not.toContain(findings[0]?.reason);
  });

  test('that fails: every role sees it, and it is gone with the next success', async () => {
    await setCommand('/bin/false');
    await fillSegment();
    const wal = '[0-9A-F]{24}';
    const time = '\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z';
    const reason = expect.stringMatching(
      new RegExp(
        `^the archiver failed at ${time} with ${wal}, and (nothing was archived before|the last success was at ${time}): ${keepsWal}$`,
      ),
    );
    const mend = 'run archive_command by hand, as the user of the server';
    await expect.poll(() => find()).toMatchObject([{ ...error, reason, mend }]);
    expect(await find(undefined, plainRole)).toMatchObject([{ ...error, reason, mend }]);
    vi.stubEnv('PGBACKREST_STANZA', 'main');
    expect(await find()).toMatchObject([{ mend: 'pgbackrest --stanza=main check' }]);
    vi.stubEnv('PGBACKREST_STANZA', undefined);

    await setCommand('/bin/true');
    await archived();
    await expect.poll(() => find()).toEqual([]);
  });

  test('that hangs: every role sees how much waits', async () => {
    await setCommand('/bin/true');
    await fillSegment();
    await archived();
    await expect.poll(() => find(none)).toEqual([]);
    await expect.poll(() => find(none, plainRole)).toEqual([]);
    const gate = join(folder, 'open');
    await setCommand(`while [ ! -e ${gate} ]; do sleep 0.1; done`);
    try {
      for (let count = 0; count < 3; count += 1) await fillSegment();
      const reason = expect.stringMatching(
        new RegExp(`^the archiver lags: 3 WAL segments waiting, the oldest for \\d minutes?: ${keepsWal}$`),
      );
      await expect.poll(() => find(none)).toMatchObject([{ ...error, reason }]);
      expect(await find(none, plainRole)).toMatchObject([{ ...error, reason }]);
      expect(await find({ segments: 2, seconds: 3600 })).toMatchObject([{ reason }]);
      expect(await find({ segments: 3, seconds: 3600 })).toEqual([]);
    } finally {
      writeFileSync(gate, '');
    }
    await expect.poll(() => find(none)).toEqual([]);
    expect(await find(none, plainRole)).toEqual([]);
  });

  test('that may wait for hours, because segments are archived only when they are full', async () => {
    await setCommand('/bin/true');
    await fillSegment();
    await archived();
    await db.query('ALTER SYSTEM RESET archive_timeout');
    await db.query('SELECT pg_reload_conf()');
    const warning = {
      severity: 'warning',
      reason: expect.stringMatching(/^archive_timeout is 0: /),
      mend: "ALTER SYSTEM SET archive_timeout = '1min'; SELECT pg_reload_conf()",
    };
    await expect.poll(() => find()).toEqual([warning]);
    await applyMends(db, [warning]);
    await expect.poll(() => find()).toEqual([]);
  });

  test('is named once, not for each database of the server', async () => {
    await setCommand('');
    const { hostname, port } = new URL(server.url);
    const environment = { PGHOST: hostname, PGPORT: port, PGUSER: 'postgres', PGPASSWORD: 'postgres' };
    expect(await runCli(['create', 'core', 'atriz'], environment)).toMatchObject({ code: 0 });
    const { code, stdout } = await runCli(['doctor', 'core', 'atriz', '--json'], environment);
    const reports = JSON.parse(stdout) as { key: string; findings: { check: string }[] }[];
    expect({
      code,
      of: reports.filter(({ findings }) => findings.some(isArchiver)).map(({ key }) => key),
    }).toEqual({
      code: 3,
      of: ['core'],
    });
  });
});

const isArchiver = ({ check }: { check: string }) => check === 'archiver';

const programs = await findArchivable();
const title = `a stanza of pgBackRest${typeof programs === 'string' ? ` (skipped: ${programs})` : ''}`;

describe.skipIf(typeof programs === 'string')(title, () => {
  let server: ArchivedServer;
  let db: Pool;
  beforeAll(async () => {
    if (typeof programs === 'string') return;
    server = await startArchivedServer(programs);
    db = createDatabasePool({ connectionString: server.url, max: 1 });
    takeOver(server.environment);
  });
  afterAll(async () => {
    await db?.close();
    await server?.stop();
  });

  const find = (limits: Partial<typeof thresholds.backups> = {}) =>
    examine(db, 'core', 'stanza', { backups: { ...thresholds.backups, ...limits } });
  /** Runs a mend, as the user of the server. */
  const mend = async (findings: readonly { mend: string }[]) => {
    for (const { mend } of findings) await server.pgBackRest(...mend.split(' ').slice(2));
  };

  test('that does not exist, or has no backup, or an old one only', async () => {
    const missing = await find();
    expect(missing).toEqual([
      {
        ...error,
        reason: 'the stanza main does not exist: missing stanza path',
        mend: 'pgbackrest --stanza=main stanza-create',
        note: 'as the user of the server, while it runs',
      },
    ]);
    await mend(missing);
    const without = await find();
    expect(without).toEqual([
      {
        ...error,
        reason: 'the stanza main has no backup',
        mend: 'pgbackrest --stanza=main --type=full backup',
      },
    ]);
    await mend(without);
    expect(await find()).toEqual([]);

    const old = await find({ day: 0, week: 0 });
    expect(old).toEqual([
      {
        ...error,
        reason: 'the newest backup of the stanza main is 0 hours old',
        mend: 'pgbackrest --stanza=main --type=diff backup',
      },
      {
        severity: 'warning',
        reason: 'the newest full backup of the stanza main is 0 hours old',
        mend: 'pgbackrest --stanza=main --type=full backup',
      },
    ]);
    await mend(old.slice(0, 1));
    const differential = await find({ day: 3600, week: 0 });
    expect(differential).toEqual(old.slice(1));
    await mend(differential);
    expect(await find({ day: 3600, week: 3600 })).toEqual([]);
  });

  test('of another server, or that nothing names, says nothing', async () => {
    expect(await examine(await testPool('core'), 'core', 'stanza')).toEqual([]);
    vi.stubEnv('PGBACKREST_STANZA', '');
    expect(await find({ day: 0 })).toEqual([]);
    takeOver(server.environment);
  });

  test('that cannot be read, with the reason that pgBackRest has', async () => {
    const files = ['backup.info', 'backup.info.copy'].map((name) =>
      join(server.repository, 'backup/main', name),
    );
    const contents = files.map((file) => readFileSync(file));
    try {
      for (const file of files) writeFileSync(file, 'damaged');
      expect(await find()).toEqual([
        {
          ...error,
          reason: expect.stringMatching(
            /^the stanza main is in error: repo1: \[\w+Error\] unable to load info file/,
          ),
          mend: 'pgbackrest --stanza=main check',
        },
      ]);
    } finally {
      for (const [index, file] of files.entries()) writeFileSync(file, contents[index] ?? '');
    }
    expect(await find()).toEqual([]);
  });

  test('whose program is not there, or whose name is none: not checked', async () => {
    expect(await runCli(['create', 'core'], server.environment)).toMatchObject({ code: 0 });
    const unchecked = async (environment: Record<string, string>) => {
      const { stdout } = await runCli(['doctor', 'core', '--json'], {
        ...server.environment,
        ...environment,
      });
      const [report] = JSON.parse(stdout) as { findings: { check: string }[] }[];
      return report?.findings.filter(({ check }) => check === 'stanza');
    };
    const finding = (reason: string) => [{ severity: 'warning', isUnchecked: true, reason }];
    expect(await unchecked({ PATH: temporaryFolder() })).toMatchObject(
      finding('stanza was not checked: PGBACKREST_STANZA is "main", but pgbackrest is not on the PATH.'),
    );
    expect(await unchecked({ PGBACKREST_STANZA: '; rm' })).toMatchObject(
      finding(
        'stanza was not checked: PGBACKREST_STANZA is "; rm": it should be the name of one stanza, such as main.',
      ),
    );
    const configuration = join(temporaryFolder(), 'pgbackrest.conf');
    writeFileSync(configuration, '[global]\nrepo1-path=relative\n');
    expect(await unchecked({ PGBACKREST_CONFIG: configuration })).toMatchObject([
      {
        isUnchecked: true,
        reason: expect.stringMatching(/^stanza was not checked: pgbackrest failed with code \d+:\n/),
      },
    ]);
  });

  test('with a backup of damaged pages', async () => {
    await db.query('CREATE TABLE damaged AS SELECT generate_series(1, 10000) AS n');
    const { rows } = await db.query<{ path: string; checksums: string }>(
      "SELECT pg_relation_filepath('damaged') AS path, current_setting('data_checksums') AS checksums",
    );
    expect(rows[0]?.checksums).toBe('on');
    await server.shutDown();
    const file = await open(join(server.folder, 'plain', rows[0]?.path ?? ''), 'r+');
    await file.write('damaged', 8192 + 4000);
    await file.close();
    await server.start();
    await server.pgBackRest('--type=full', 'backup');
    expect(await find()).toEqual([
      {
        ...error,
        reason: expect.stringMatching(
          /^pages had a wrong checksum in the backup \d{8}-\d{6}F of the stanza main$/,
        ),
        mend: expect.stringMatching(/^pgbackrest --stanza=main --set=\d{8}-\d{6}F info$/),
        note: 'names the files; restore them from an older backup',
      },
    ]);
    await db.query('DROP TABLE damaged');
    await server.pgBackRest('--type=full', 'backup');
    expect(await find()).toEqual([]);
  });

  test('of a server that does not archive any more', async () => {
    await db.query('ALTER SYSTEM SET archive_mode = off');
    await server.crashAndRestart();
    const findings = await find();
    expect(findings).toEqual([
      {
        ...error,
        reason:
          'archive_mode is off: without WAL, the backups of the stanza main cannot be restored to a moment',
        mend: 'ALTER SYSTEM SET archive_mode = on',
        note: 'and restart the server',
      },
    ]);
    await applyMends(db, findings);
    await server.crashAndRestart();
    expect(await find()).toEqual([]);
  });
});
