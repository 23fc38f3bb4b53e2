// Measures how times grow with the size of a fleet whose raw points span 29 days.
import type * as tracking from '../../schema/tracking.ts';
import type { Pool } from '../../src/pool.ts';
import {
  getHourlyStats,
  getLatestLocations,
  getRecentLocations,
  getTrack,
  importLocations,
  type LocationInput,
  recordLocations,
} from '../../src/tracking/index.ts';
import { recentLocationsQuery } from '../../src/tracking/reads.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { startBar } from '../cli/progress.ts';
import { runPolicies } from '../simulation/jobs.ts';
import { growthChart, writeFigures } from './chart.ts';
import { benchUuid, fleetCsv } from './rows.ts';
import { withScratchTracking } from './scratch.ts';
import { median, queryNumber, timed } from './timing.ts';
import { writeAwaited } from './tracking-writes.ts';

interface GrowthOptions {
  url?: string;
  rows: number;
  out?: string;
}

const sizes = [1_000_000, 10_000_000, 30_000_000, 100_000_000];
const day = 86_400_000;
const days = 29;
const stepMs = 30_000;
const pointsPerDevice = (days * day) / stepMs;
const repetitions = 20;
/** Devices of pshop outside the fleet. Half of the fleet belongs to pshop too. */
const otherDevices = 1_000;

/** The measurements at one size. Each name includes the unit. */
type Figures = Readonly<Record<string, number>>;

export async function benchGrowth({ url, rows, out = '.' }: GrowthOptions): Promise<void> {
  const measured: { rows: number; figures: Figures }[] = [];
  let mostMemory = 0;
  await withScratchTracking('growth', url, async ({ db, description }) => {
    let devices = 0;
    for (const size of [...sizes.filter((one) => one < rows), rows]) {
      const wanted = Math.max(1, Math.round(size / pointsPerDevice));
      const added = (wanted - devices) * pointsPerDevice;
      using bar = startBar('{bar} {value} of {total} points', added, {}, { isLasting: false });
      const seconds = await timed(() =>
        importLocations(
          db,
          {
            format: 'csv',
            stream: fleetCsv({ rows: added, devices: wanted - devices, firstDevice: devices, stepMs }),
          },
          {
            onProgress: (loaded) => {
              bar.update(loaded);
              mostMemory = Math.max(mostMemory, process.memoryUsage.rss());
            },
          },
        ),
      );
      devices = wanted;
      await runPolicies(db, ['compression']);
      await db.query('VACUUM ANALYZE location_events');
      const figures = {
        'import, points a second': (added / seconds) * 1000,
        ...(await figuresOf(db, devices)),
      };
      measured.push({ rows: devices * pointsPerDevice, figures });
      console.error(`${formatCount(devices * pointsPerDevice)} points: measured`);
    }
    const retention = await benchRetention(db);
    const planning = await benchPlanning(db);
    report(measured);
    console.log(
      `Retention of a day: ${retention.dropMs.toFixed(0)} ms, DELETE of the same ${formatCount(Math.round(retention.deleteMs))} ms, ` +
        `${formatCount(Math.round(retention.deleteMs / retention.dropMs))} times as long.`,
    );
    console.log(
      `Planning a device's 24 h: ${planning.few.toFixed(2)} ms with 30 chunks, ${planning.many.toFixed(2)} ms with 300.`,
    );
    console.log(`Most memory (RSS): ${formatBytes(mostMemory)}.`);
    const chart = growthChart('Growth, relative to the smallest', measured);
    writeFigures('growth', out, { description, measured, retention, planning, mostMemory }, chart);
  });
}

async function figuresOf(db: Pool<typeof tracking>, devices: number): Promise<Figures> {
  const device = benchUuid('device', 0);
  const own = Array.from({ length: 10 }, (_, number) => benchUuid('device', number));
  const week = { from: new Date(Date.now() - 7 * day), to: new Date() };
  const points = await queryNumber(
    db,
    'SELECT count(*) FROM location_events WHERE time >= now()::date - 10 AND time < now()::date - 9',
  );
  const perMillion = (ms: number) => ms / (points / 1_000_000);
  return {
    'recordLocations of 1,000, ms': await often(() => recordLocations(db, pointsNow(otherDevices))),
    'writer, 1,000 points each awaited, ms': await often(() => writeAwaited(db, pointsNow(otherDevices)), 5),
    'getRecentLocations, 24 h, ms': await often(() => getRecentLocations(db, device)),
    'getHourlyStats, 7 days, ms': await often(() => getHourlyStats(db, device)),
    'getTrack, 7 days, 500 points, ms': await often(() => getTrack(db, device, { ...week, maxPoints: 500 })),
    'getLatestLocations, 10 devices, ms': await often(() => getLatestLocations(db, { deviceIds: own })),
    'getLatestLocations of an application, ms per 1,000 devices':
      ((await often(() => getLatestLocations(db, { appSource: 'pshop' }))) * 1_000) /
      (otherDevices + devices / 2),
    'refresh of a day, ms per million points': perMillion(
      await timed(() =>
        db.query(
          "CALL refresh_continuous_aggregate('location_hourly', date_trunc('day', now()) - interval '10 days', date_trunc('day', now()) - interval '9 days', force => true)",
        ),
      ),
    ),
    'compression of a day, ms per million points': perMillion(await recompress(db)),
    'bytes per point':
      (await queryNumber(db, "SELECT hypertable_size('location_events')")) / (devices * pointsPerDevice),
  };
}

async function often(work: () => Promise<unknown>, times = repetitions): Promise<number> {
  await work();
  const samples: number[] = [];
  for (let time = 0; time < times; time += 1) samples.push(await timed(work));
  return median(samples);
}

/** One current point for each of `count` devices of pshop outside the fleet. */
function pointsNow(count: number): LocationInput[] {
  const time = new Date();
  return Array.from({ length: count }, (_, number) => ({
    time,
    deviceId: benchUuid('other device', number),
    userId: benchUuid('user', number),
    appSource: 'pshop',
    latitude: -34.6,
    longitude: -58.4,
    speed: 40,
  }));
}

/** Decompresses the chunk of one day and compresses it again. @returns the milliseconds of the compression. */
async function recompress(db: Pool): Promise<number> {
  const chunk = `show_chunks('location_events', newer_than => now()::date - 10, older_than => now()::date - 9)`;
  await db.query(`SELECT decompress_chunk(c) FROM ${chunk} AS c`);
  return timed(() => db.query(`SELECT compress_chunk(c) FROM ${chunk} AS c`));
}

/** Removes the oldest, incomplete day twice: with a DELETE that is rolled back, then as the retention policy does. */
async function benchRetention(db: Pool): Promise<{ deleteMs: number; dropMs: number }> {
  const end = `date_trunc('day', now()) - interval '${days - 1} days'`;
  let deleteMs = 0;
  await db.sql
    .begin(async (sql) => {
      deleteMs = await timed(async () => sql.unsafe(`DELETE FROM location_events WHERE time < ${end}`));
      throw new Error('taken back');
    })
    .catch(() => undefined);
  const dropMs = await timed(() => db.query(`SELECT drop_chunks('location_events', older_than => ${end})`));
  return { deleteMs, dropMs };
}

/** Measures the planning time in milliseconds, first with the chunks of one month, then of ten months. */
async function benchPlanning(db: Pool): Promise<{ few: number; many: number }> {
  const { text, parameters } = recentLocationsQuery(benchUuid('device', 0));
  const planning = async () => {
    const samples: number[] = [];
    for (let time = 0; time < repetitions; time += 1) {
      const explain = `EXPLAIN (SUMMARY, FORMAT JSON) ${text}`;
      const { rows } = await db.query<{ 'QUERY PLAN': { 'Planning Time': number }[] }>(explain, parameters);
      samples.push(rows[0]?.['QUERY PLAN'][0]?.['Planning Time'] ?? 0);
    }
    return median(samples);
  };
  const few = await planning();
  await db.query(
    `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude)
     SELECT now() - day * interval '1 day', gen_random_uuid(), gen_random_uuid(), 'pshop', 0.1, 0.1 FROM generate_series(30, 300) AS day`,
  );
  return { few, many: await planning() };
}

function report(measured: readonly { rows: number; figures: Figures }[]): void {
  const first = measured[0]?.figures ?? {};
  const last = measured.at(-1)?.figures ?? {};
  printTable(
    [
      'figure',
      ...measured.map(({ rows }) => `${formatCount(Math.round(rows / 1e5) / 10)} million`),
      'growth',
    ],
    Object.keys(first).map((name) => [
      name,
      ...measured.map(({ figures }) => format(figures[name] ?? Number.NaN)),
      ((last[name] ?? Number.NaN) / (first[name] ?? Number.NaN)).toFixed(2),
    ]),
  );
  console.log();
}

const format = (value: number) => (value >= 100 ? formatCount(Math.round(value)) : value.toFixed(2));
