// Benchmark of reads: compares the library, bare postgres.js and Drizzle, which read the same columns.
// Then compares reads of the library from an application's view with reads from the table.
import { and, desc, sql as drizzleSql, eq, gt } from 'drizzle-orm';
import type * as tracking from '../../schema/tracking.ts';
import { locationEvents } from '../../schema/tracking.ts';
import type { Pool } from '../../src/pool.ts';
import { locationColumns } from '../../src/tracking/columns.ts';
import { getHourlyStats, getLatestLocations, getRecentLocations } from '../../src/tracking/index.ts';
import { selectedColumns } from '../../src/tracking/packed-rows.ts';
import { recentLocationsQuery } from '../../src/tracking/reads.ts';
import { formatCount } from '../cli/output.ts';
import { benchUuid } from './rows.ts';
import { scratchName } from './scratch.ts';
import { type Measure, type Spread, spreadOf, timed } from './timing.ts';

const repetitionsPerRound = 30;

/** @param devices Number of devices in the fleet. Each has 1,000 points, and 10,000 in a second measurement. */
export async function benchReads(
  db: Pool<typeof tracking>,
  rounds: number,
  devices: number,
): Promise<Measure[]> {
  const repetitions = rounds * repetitionsPerRound;
  await db.query('TRUNCATE location_events');
  // One device has a point every 10 seconds for a day. The points of the fleet span 30 days.
  const device = benchUuid('device', devices);
  await db.query(
    `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, accuracy, altitude, speed, heading)
     SELECT time, $1::uuid, $1::uuid, 'mextrack', -34.6 + random() / 10, -58.4 + random() / 10, 5.25, 20.5, random() * 80, random() * 360
     FROM generate_series(now() - interval '1 day', now(), interval '10 seconds') AS time`,
    [device],
  );
  const fleet = Array.from({ length: devices }, (_, number) => benchUuid('device', number));
  await fillFleet(db, fleet, 2_592);
  const recent = await benchRecent(db, device, repetitions);
  const latest = await benchLatest(db, fleet, 1_000, repetitions);
  await db.query('DELETE FROM location_events WHERE device_id <> $1', [device]);
  await fillFleet(db, fleet, 259);
  const tenfold = await benchLatest(db, fleet, 10_000, repetitions);
  const views = await benchViews(db, device, devices, repetitions);
  return [...recent, ...latest, ...tenfold, ...views];
}

/** Gives each device a point every `seconds` seconds for 30 days. The devices belong to three applications. */
async function fillFleet(db: Pool, ids: readonly string[], seconds: number): Promise<void> {
  for (let start = 0; start < ids.length; start += 100) {
    await db.query(
      `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, accuracy, altitude, speed, heading)
       SELECT time, id, id, (ARRAY['mextrack', 'pshop', 'atriz'])[number % 3 + 1], -34.6, -58.4, 5, 20, 40, 90
       FROM unnest($1::uuid[]) WITH ORDINALITY AS device (id, number), generate_series(now() - interval '29 days 23 hours', now(), $2::int * interval '1 second') AS time`,
      [ids.slice(start, start + 100), seconds],
    );
  }
  await db.query('VACUUM ANALYZE location_events');
}

async function benchRecent(
  db: Pool<typeof tracking>,
  device: string,
  repetitions: number,
): Promise<Measure[]> {
  const { text, parameters } = recentLocationsQuery(device, { hours: 24 });
  const columns = locationColumns.map(({ name, property }) => `${name} AS "${property}"`);
  const bare = text.replace(selectedColumns, columns.join(', '));
  const since = () => drizzleSql`now() - interval '24 hours'`;
  const times = await compare(repetitions, {
    library: () => getRecentLocations(db, device, { hours: 24 }),
    bare: () => db.sql.unsafe(bare, parameters as never[], { prepare: true }),
    drizzle: () =>
      db.orm
        .select()
        .from(locationEvents)
        .where(and(eq(locationEvents.deviceId, device), gt(locationEvents.time, since())))
        .orderBy(desc(locationEvents.time))
        .limit(10_000),
  });
  const hours = await compare(repetitions, { library: () => getHourlyStats(db, device, { days: 7 }) });
  return [
    row('a device, 24 h (8,640 rows): bare postgres.js', times.bare, times.bare, 'bare postgres.js'),
    row('… getRecentLocations', times.library, times.bare, 'bare postgres.js'),
    row('… drizzle select', times.drizzle, times.bare, 'bare postgres.js'),
    row('a device, 7 days: getHourlyStats', hours.library, hours.library, 'itself'),
  ];
}

async function benchLatest(
  db: Pool,
  deviceIds: readonly string[],
  pointsOfEach: number,
  repetitions: number,
): Promise<Measure[]> {
  const unbounded =
    'SELECT DISTINCT ON (device_id) * FROM location_events WHERE device_id = ANY($1::uuid[]) ORDER BY device_id, time DESC';
  const times = await compare(repetitions, { library: () => getLatestLocations(db, { deviceIds }) });
  const peer = await compare(3, { peer: () => db.query(unbounded, [deviceIds]) });
  return [
    row(
      `latest of ${formatCount(deviceIds.length)} devices in ${formatCount(deviceIds.length * pointsOfEach)} points: unbounded DISTINCT ON`,
      peer.peer,
      peer.peer,
      'unbounded DISTINCT ON',
    ),
    row('… getLatestLocations', times.library, peer.peer, 'unbounded DISTINCT ON'),
  ];
}

/** Reads the table as its owner, and the view of an application as a role with the application's privileges. */
async function benchViews(
  db: Pool,
  device: string,
  devices: number,
  repetitions: number,
): Promise<Measure[]> {
  const role = scratchName('application');
  await db.query(
    `CREATE ROLE ${role}; GRANT USAGE ON SCHEMA mextrack TO ${role};
     GRANT SELECT ON mextrack.location_events TO ${role}`,
  );
  try {
    await using application = db.dedicated();
    await application.query(`SET ROLE ${role}; SET search_path = mextrack, public`);
    const recent = await compare(repetitions, {
      table: () => getRecentLocations(db, device),
      view: () => getRecentLocations(application, device),
    });
    const latest = await compare(repetitions, {
      table: () => getLatestLocations(db, { appSource: 'mextrack' }),
      view: () => getLatestLocations(application, { appSource: 'mextrack' }),
    });
    return [
      row('a device, 24 h: getRecentLocations, the table', recent.table, recent.table, 'the table'),
      row("… the application's view", recent.view, recent.table, 'the table'),
      row(
        `newest of an application (a third of ${formatCount(devices)} devices): the table`,
        latest.table,
        latest.table,
        'the table',
      ),
      row("… the application's view", latest.view, latest.table, 'the table'),
    ];
  } finally {
    await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
}

const row = (what: string, { median, min, max }: Spread, peer: Spread, against: string): Measure => ({
  what,
  value: median,
  range: [min, max],
  unit: 'ms',
  ratio: peer.median / median,
  against,
});

/** Runs the ways alternately. @returns the times of each way in milliseconds. */
async function compare<Name extends string>(
  repetitions: number,
  ways: Readonly<Record<Name, () => PromiseLike<unknown>>>,
): Promise<Record<Name, Spread>> {
  const entries = Object.entries(ways) as [Name, () => PromiseLike<unknown>][];
  const samples = entries.map(([name, read]) => ({ name, read, times: [] as number[] }));
  for (const { read } of samples) await read();
  for (let repetition = 0; repetition < repetitions; repetition += 1) {
    for (const { read, times } of samples) times.push(await timed(read));
  }
  return Object.fromEntries(samples.map(({ name, times }) => [name, spreadOf(times)])) as Record<
    Name,
    Spread
  >;
}
