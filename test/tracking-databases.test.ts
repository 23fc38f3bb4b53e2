// A tracking database for each application: as two databases of one server, and on two servers.
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { people } from '../scripts/seeds/people.ts';
import { checkHealth, createDatabasePool, databaseTargets, type Pool } from '../src/index.ts';
import { eraseUser, findOrphans } from '../src/references/index.ts';
import {
  createLocationWriter,
  getLatestLocations,
  getRecentLocations,
  importLocations,
  recordLocations,
} from '../src/tracking/index.ts';
import { openPools } from './references/people.ts';
import { temporaryFolder } from './support/backups.ts';
import { freshEnvironment, runCli } from './support/cli.ts';
import { describeWith, migratedDatabase, serverUrl, uniqueName } from './support/database.ts';
import { doctor, takeOver } from './support/doctor.ts';
import { likeServer, startOwnServer } from './support/own-server.ts';
import { point } from './support/tracking-points.ts';

const own = ['tracking:mextrack', 'tracking:pshop'] as const;
const all = ['core', ...own, 'atriz', 'mextrack', 'pshop'];
const { capabilities } = inject('server');
const isNative = capabilities.includes('background-workers') && capabilities.includes('pg_dump');

/** The variables of all databases, none of which exists yet. */
function environmentOf(pshop = serverUrl('tracking', uniqueName('tracking'))): Record<string, string> {
  const { TRACKING_DATABASE_URL: mextrack = '', ...others } = freshEnvironment();
  return { ...others, MEXTRACK_TRACKING_DATABASE_URL: mextrack, PSHOP_TRACKING_DATABASE_URL: pshop };
}

async function json<Result>(environment: Record<string, string>, ...args: string[]): Promise<Result> {
  const { code, stdout, stderr } = await runCli([...args, '--json'], environment);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as Result;
}

const sources = async (pool: Pool): Promise<string[]> => {
  const { rows } = await pool.query<{ source: string }>(
    'SELECT DISTINCT app_source AS source FROM location_events ORDER BY 1',
  );
  return rows.map(({ source }) => source);
};

/** Creates, migrates and seeds, and looks at both databases with each command that takes several. */
async function expectBoth(environment: Record<string, string>): Promise<void> {
  const keysOf = (results: readonly { key: string }[]) => results.map(({ key }) => key);
  for (const command of ['create', 'migrate', 'seed', 'status']) {
    expect(keysOf(await json(environment, command))).toEqual(all);
  }
  await using mextrack = createDatabasePool({
    connectionString: environment.MEXTRACK_TRACKING_DATABASE_URL,
  });
  await using pshop = createDatabasePool({ connectionString: environment.PSHOP_TRACKING_DATABASE_URL });
  expect([await sources(mextrack), await sources(pshop)]).toEqual([['mextrack'], ['pshop']]);

  expect(keysOf(await json(environment, 'status', 'tracking'))).toEqual(own);
  expect(keysOf(await json(environment, 'status', 'tracking:pshop'))).toEqual(['tracking:pshop']);
  expect(await json(environment, 'check', 'tracking')).toEqual(own.map((key) => ({ key, problems: [] })));

  const report = await json<{
    databases: { key: string }[];
    tracking: object;
    otherTracking: object[];
  }>(environment, 'report');
  expect(keysOf(report.databases)).toEqual(all);
  expect(report.tracking).toMatchObject({ key: 'tracking:mextrack', positions: { total: 1 } });
  expect(report.otherTracking).toMatchObject([{ key: 'tracking:pshop', positions: { total: 1 } }]);

  // One person in both, and one whom core does not know.
  const userId = people.driver.id;
  const stranger = randomUUID();
  for (const [pool, appSource] of [
    [mextrack, 'mextrack'],
    [pshop, 'pshop'],
  ] as const) {
    await recordLocations(pool, [
      point({ userId, appSource, metadata: { where: 'home' } }),
      point({ userId: stranger, appSource }),
    ]);
  }
  const references = await runCli(['references', '--json'], environment);
  expect(references.code).toBe(3);
  const orphans = (JSON.parse(references.stdout) as { database: string; relation: string; orphans: number }[])
    .filter(({ relation, orphans }) => relation === 'location_events' && orphans > 0)
    .map(({ database }) => database);
  expect(orphans).toEqual(own);
  for (const id of [userId, stranger]) {
    const erased = await json<{ relations: { database: string; relation: string; rows: number }[] }>(
      environment,
      'erase-user',
      id,
      '--yes',
      '--grace',
      '0',
    );
    const places = erased.relations
      .filter(({ relation, rows }) => relation === 'location_events' && rows > 0)
      .map(({ database }) => database);
    expect(places).toEqual(own);
    for (const pool of [mextrack, pshop]) {
      const { rowCount } = await pool.query('SELECT 1 FROM location_events WHERE user_id = $1', [id]);
      expect(rowCount).toBe(0);
    }
  }
  const after = await json<{ orphans: number }[]>(environment, 'references');
  expect(after.filter(({ orphans }) => orphans > 0)).toEqual([]);
}

/** What needs sessions, pg_dump and roles of the server. */
async function expectOperated(environment: Record<string, string>): Promise<void> {
  expect(await json(environment, 'access', 'apply', 'tracking')).toMatchObject({
    databases: own.map((key) => ({ key, refused: [] })),
  });
  expect(await json(environment, 'access', 'check', 'tracking')).toMatchObject(
    own.map((key) => ({ key, differences: [] })),
  );
  const cells = await json<{ key: string; role: string }[]>(environment, 'access', 'show', 'tracking');
  const applications = cells.filter(({ role }) => role.endsWith('_app'));
  expect(applications).toEqual([
    expect.objectContaining({ key: 'tracking:mextrack', role: expect.stringMatching(/mextrack_app$/) }),
    expect.objectContaining({ key: 'tracking:pshop', role: expect.stringMatching(/pshop_app$/) }),
  ]);
  expect(await doctor(environment, 'tracking')).toEqual({ code: 0, findings: [] });

  const to = temporaryFolder();
  const { folder, databases } = await json<{ folder: string; databases: { key: string; rows: number }[] }>(
    environment,
    'backup',
    '--include-tracking',
    '--to',
    to,
  );
  expect(databases.map(({ key }) => key)).toEqual(all);
  expect(await json(environment, 'drill', '--from', folder, 'tracking')).toMatchObject(
    own.map((key) => ({ key, problems: [] })),
  );
  await using pshop = createDatabasePool({ connectionString: environment.PSHOP_TRACKING_DATABASE_URL });
  await pshop.query('TRUNCATE location_events');
  await pshop.close();
  expect(
    await json(environment, 'restore', folder, 'tracking:pshop', '--drop-old', '--yes', '--force'),
  ).toMatchObject({ databases: [{ key: 'tracking:pshop', keptAs: null, pending: [] }] });
  await using restored = createDatabasePool({ connectionString: environment.PSHOP_TRACKING_DATABASE_URL });
  expect(await sources(restored)).toEqual(['pshop']);
  await restored.close();

  // Without a place for one of them, a restore of all says so instead of leaving it out.
  const { PSHOP_TRACKING_DATABASE_URL, ...less } = environment;
  const shared = { ...less, TRACKING_DATABASE_URL: PSHOP_TRACKING_DATABASE_URL ?? '' };
  expect(await runCli(['restore', folder, '--yes'], shared)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('holds tracking:pshop, and PSHOP_TRACKING_DATABASE_URL is not set'),
  });

  await runCli(['migrate', 'down', 'tracking:pshop', '--yes'], environment);
  const rehearsed = await json(environment, 'rehearse', 'tracking', '--live', '--to', to);
  expect(rehearsed).toMatchObject([{ database: 'tracking:pshop', problems: [] }]);
  const deployed = await json<{ pending: object }>(environment, 'deploy', 'tracking');
  expect(deployed).toMatchObject({ isDone: true, pending: { 'tracking:pshop': [expect.any(String)] } });
}

describeWith(['timescaledb'], 'operated', () => {
  test('as two databases of one server', async () => {
    const environment = environmentOf();
    await expectBoth(environment);
    if (isNative) await expectOperated(environment);
  });

  test('on two servers', async ({ skip }) => {
    const like = isNative ? await likeServer(serverUrl('tracking', 'postgres')) : undefined;
    if (!like) return skip('the programs of a native server with TimescaleDB are not on this machine');
    const other = await startOwnServer(undefined, like);
    onTestFinished(() => other.stop());
    const environment = environmentOf(other.url.replace(/postgres$/, 'atriz_tracking'));
    await expectBoth(environment);
    await expectOperated(environment);
  });
});

describeWith(['timescaledb'], 'in a program', () => {
  afterEach(() => vi.unstubAllEnvs());

  /** Databases of mextrack and of all others; the environment of this process names them. */
  async function arranged() {
    const urls = {
      MEXTRACK_TRACKING_DATABASE_URL: await migratedDatabase('tracking'),
      TRACKING_DATABASE_URL: await migratedDatabase('tracking'),
    };
    takeOver(urls);
    const open = (source?: 'mextrack' | 'pshop') => {
      const pool = createDatabasePool({ key: 'tracking', source });
      onTestFinished(() => pool.close());
      return pool;
    };
    return { urls, mextrack: open('mextrack'), pshop: open('pshop'), rest: open() };
  }

  test('a pool of an application leads to its database, else to the shared one', async () => {
    const { urls, mextrack, pshop, rest } = await arranged();
    const name = (url: string) => new URL(url).pathname.slice(1);
    expect(databaseTargets()).toEqual([
      'core',
      'tracking',
      'tracking:mextrack',
      'atriz',
      'mextrack',
      'pshop',
    ]);
    expect([mextrack, pshop, rest].map((pool) => pool.name)).toEqual([
      name(urls.MEXTRACK_TRACKING_DATABASE_URL),
      name(urls.TRACKING_DATABASE_URL),
      name(urls.TRACKING_DATABASE_URL),
    ]);
    const [there, here] = [point(), point({ appSource: 'pshop' })];
    await recordLocations(mextrack, [there]);
    await recordLocations(pshop, [here]);
    expect(await getLatestLocations(mextrack, { appSource: 'mextrack' })).toMatchObject([
      { deviceId: there.deviceId },
    ]);
    expect(await getLatestLocations(rest, { appSource: 'pshop' })).toMatchObject([
      { deviceId: here.deviceId },
    ]);
    expect(await getRecentLocations(rest, there.deviceId)).toEqual([]);
    expect((await checkHealth(mextrack)).databases).toMatchObject({
      'tracking:mextrack': { isReachable: true, isMigrated: true },
    });
  });

  test('what belongs into another database is refused, and nothing is stored', async () => {
    const { mextrack, pshop, rest } = await arranged();
    const foreign = { code: 'LOCATIONS_REJECTED', message: expect.stringContaining('another database') };
    const [mextracks, pshops] = [point(), point({ appSource: 'pshop' })];
    await expect(recordLocations(mextrack, [mextracks, pshops])).rejects.toMatchObject({
      ...foreign,
      rejected: [{ index: 1, reason: expect.stringContaining('appSource is pshop') }],
    });
    for (const pool of [pshop, rest]) {
      await expect(recordLocations(pool, [mextracks])).rejects.toMatchObject(foreign);
      const latest = getLatestLocations(pool, { appSource: 'mextrack' });
      await expect(latest).rejects.toMatchObject({ code: 'VALIDATION' });
    }
    const transaction = mextrack.orm.transaction((tx) => recordLocations(tx, [pshops]));
    await expect(transaction).rejects.toMatchObject(foreign);
    const writer = createLocationWriter(mextrack);
    await expect(writer.write(pshops)).rejects.toMatchObject(foreign);
    await writer.close();
    for (const pool of [mextrack, rest]) expect(await sources(pool)).toEqual([]);
  });

  test.each([
    ['rows that name it', 'time,latitude,longitude,app_source\n', ',pshop\n', {}],
    ['a file without it', 'time,latitude,longitude\n', '\n', { appSource: 'pshop' }],
  ])('an import refuses %s', async (_, header, end, defaults) => {
    const { mextrack } = await arranged();
    const row = `${new Date().toISOString()},45,9`;
    const text = `${header}${row}${end}${row}${end}`;
    const given = { deviceId: randomUUID(), userId: randomUUID(), ...defaults };
    const source = { format: 'csv' as const, stream: chunksOf(text), defaults: given };
    expect(await importLocations(mextrack, source)).toMatchObject({ loaded: 0, rejected: 2 });
    expect(await sources(mextrack)).toEqual([]);
  });

  async function* chunksOf(text: string) {
    yield text;
  }

  test('the command import chooses the database by --app', async () => {
    const { urls, mextrack, rest } = await arranged();
    const file = `${temporaryFolder()}/walk.ndjson`;
    const row = (app_source?: string) =>
      JSON.stringify({ time: new Date(), latitude: 45, longitude: 9, app_source });
    writeFileSync(file, `${row()}\n${row('pshop')}\n`);
    const ids = ['--device', randomUUID(), '--user', randomUUID()];
    expect(await runCli(['import', file, ...ids], urls)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('add --app'),
    });
    const loaded = await runCli(['import', file, ...ids, '--app', 'mextrack', '--json'], urls);
    expect(JSON.parse(loaded.stdout)).toMatchObject({ loaded: 1, rejected: [{ line: 2 }] });
    expect([await sources(mextrack), await sources(rest)]).toEqual([['mextrack'], []]);
    expect(await runCli(['export', ...ids.slice(0, 2), '--from', '2026-01-01'], urls)).toMatchObject({
      code: 2,
    });
    const from = new Date(Date.now() - 3_600_000).toISOString();
    const exported = await runCli(['export', ...ids.slice(0, 2), '--from', from, '--app', 'mextrack'], urls);
    expect(exported.stdout.trim().split('\n')).toHaveLength(2);
  });

  test('an erasure needs a pool of each, and erases in each', async () => {
    const { mextrack, rest } = await arranged();
    const userId = randomUUID();
    await recordLocations(mextrack, [point({ userId })]);
    await recordLocations(rest, [point({ userId, appSource: 'pshop' })]);
    const pools = { ...(await openPools()).pools, tracking: rest };
    await expect(eraseUser(pools, userId, { dryRun: true })).rejects.toMatchObject({
      code: 'CONFIGURATION',
      message: expect.stringContaining('no pool of tracking:mextrack'),
    });
    const orphans = await findOrphans(pools.core, mextrack);
    expect(orphans[0]).toMatchObject({ database: 'tracking:mextrack', orphans: 1 });
    const erased = await eraseUser({ ...pools, 'tracking:mextrack': mextrack }, userId, { graceMs: 0 });
    const places = erased.relations.filter(({ rows }) => rows > 0).map(({ database }) => database);
    expect(places).toEqual(['tracking', 'tracking:mextrack']);
    expect([await sources(mextrack), await sources(rest)]).toEqual([[], []]);
  });
});

describe('settings', () => {
  afterEach(() => vi.unstubAllEnvs());

  test('of createDatabasePool name an application that exists, and tracking', () => {
    const wrong = (options: object) => () => createDatabasePool(options);
    expect(wrong({ key: 'tracking', source: 'fleet' })).toThrow(
      'source is "fleet": use one of mextrack, pshop.',
    );
    expect(wrong({ key: 'core', source: 'mextrack' })).toThrow('core has one database for all applications');
    expect(wrong({ source: 'mextrack', connectionString: 'postgresql://a@b/atriz_tracking' })).toThrow(
      "pass key: 'tracking' too",
    );
  });

  test('a connectionString without a source takes everything, whatever the environment says', () => {
    takeOver({ MEXTRACK_TRACKING_DATABASE_URL: 'postgresql://a@b/atriz_tracking' });
    const connectionString = 'postgresql://a@c/atriz_tracking';
    expect(createDatabasePool({ key: 'tracking', connectionString }).foreignSources).toEqual([]);
    const pool = createDatabasePool({ key: 'tracking', source: 'pshop', connectionString });
    expect(pool).toMatchObject({ target: 'tracking:pshop', foreignSources: ['mextrack'] });
  });
});
