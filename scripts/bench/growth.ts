// Measures how times grow with the size of a fleet whose raw points span 29 days.
import { Readable } from 'node:stream';
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
import { type Transaction, withTransaction } from '../../src/transaction.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { startBar } from '../cli/progress.ts';
import { runPolicies } from '../simulation/jobs.ts';
import { growthChart, writeFigures } from './chart.ts';
import { benchUuid, fleetCsv } from './rows.ts';
import { withScratchTracking } from './scratch.ts';
import { median, queryNumber, type Spread, spreadOf, timed } from './timing.ts';
import { writeAwaited } from './tracking-writes.ts';

interface GrowthOptions {
  url?: string;
  rows: number;
  out?: string;
}

const sizes = [1_000_000, 10_000_000, 30_000_000, 100_000_000] as const;
const day = 86_400_000;
const days = 29;
const stepMs = 30_000;
const pointsPerDevice = (days * day) / stepMs;
/** Devices outside the fleet. */
const otherDevices = 1_000;

/** A database with a fleet. */
interface FleetDatabase {
  readonly db: Pool<typeof tracking>;
  devices: number;
}

interface Figure {
  /** Includes the unit. */
  readonly name: string;
  readonly turns: number;
  readonly measure: (fleet: FleetDatabase) => Promise<number>;
}

/** One figure at one size, and in the small database, which took turns with it. */
interface Growth {
  readonly name: string;
  readonly large: Spread;
  readonly small: Spread;
  /** Of `large` to `small` in the same turn. */
  readonly ratio: Spread;
}

interface SizeMeasured {
  readonly rows: number;
  readonly figures: readonly Growth[];
}

/** A small fleet stays in a database of its own: a machine that becomes slower in the meantime slows both. */
export async function benchGrowth({ url, rows, out = '.' }: GrowthOptions): Promise<void> {
  const smallest = Math.min(sizes[0], rows);
  await withScratchTracking('growth_small', url, async ({ db: smallDb, description }) => {
    console.log(`${description}\n`);
    const small: FleetDatabase = { db: smallDb, devices: 0 };
    await fill(small, smallest);
    await withScratchTracking('growth', url, async ({ db }) => {
      const large: FleetDatabase = { db, devices: 0 };
      const measured: SizeMeasured[] = [];
      let mostMemory = 0;
      for (const size of [...sizes.filter((one) => one < rows), rows]) {
        mostMemory = Math.max(mostMemory, await fill(large, size));
        const figures = await compare(small, large);
        measured.push({ rows: large.devices * pointsPerDevice, figures });
        console.error(`${formatCount(large.devices * pointsPerDevice)} points: measured`);
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
      const chart = growthChart('Growth, relative to a small database', measured);
      writeFigures('growth', out, { description, measured, retention, planning, mostMemory }, chart);
    });
  });
}

/** Adds devices until there are about `size` points, compresses what is old enough. @returns the most memory (RSS). */
async function fill(fleet: FleetDatabase, size: number): Promise<number> {
  let mostMemory = 0;
  const wanted = Math.max(1, Math.round(size / pointsPerDevice));
  const devices = wanted - fleet.devices;
  const rows = devices * pointsPerDevice;
  using bar = startBar('{bar} {value} of {total} points', rows, {}, { isLasting: false });
  const onProgress = (loaded: number) => {
    bar.update(loaded);
    mostMemory = Math.max(mostMemory, process.memoryUsage.rss());
  };
  const stream = fleetCsv({ rows, devices, firstDevice: fleet.devices, stepMs });
  await importLocations(fleet.db, { format: 'csv', stream }, { onProgress });
  fleet.devices = wanted;
  await runPolicies(fleet.db, ['compression']);
  await vacuum(fleet);
  return mostMemory;
}

async function compare(small: FleetDatabase, large: FleetDatabase): Promise<Growth[]> {
  const growth: Growth[] = [];
  for (const { name, turns, measure } of figures) {
    const samples: { small: number[]; large: number[] } = { small: [], large: [] };
    // The first turn warms up. Each turn begins with the other database.
    for (let turn = 0; turn <= turns; turn += 1) {
      const order = turn % 2 === 0 ? (['small', 'large'] as const) : (['large', 'small'] as const);
      for (const one of order) {
        const value = await measure(one === 'small' ? small : large);
        if (turn > 0) samples[one].push(value);
      }
    }
    growth.push({
      name,
      large: spreadOf(samples.large),
      small: spreadOf(samples.small),
      ratio: spreadOf(samples.large.map((value, turn) => value / (samples.small[turn] ?? Number.NaN))),
    });
  }
  for (const fleet of [small, large]) {
    await fleet.db.query('DELETE FROM location_events WHERE device_id = ANY($1)', [
      pointsNow().map(({ deviceId }) => deviceId),
    ]);
    await vacuum(fleet);
  }
  return growth;
}

const vacuum = ({ db }: FleetDatabase) => db.query('VACUUM ANALYZE location_events');

const device = benchUuid('device', 0);
const ten = Array.from({ length: 10 }, (_, number) => benchUuid('device', number));
const lastWeek = () => ({ from: new Date(Date.now() - 7 * day), to: new Date() });

const figures: readonly Figure[] = [
  {
    name: 'recordLocations of 1,000, ms',
    turns: 40,
    measure: ({ db }) => timed(() => recordLocations(db, pointsNow())),
  },
  {
    name: 'writer, 1,000 points each awaited, ms',
    turns: 10,
    measure: ({ db }) => timed(() => writeAwaited(db, pointsNow())),
  },
  {
    name: 'getRecentLocations, 24 h, ms',
    turns: 20,
    measure: ({ db }) => timed(() => getRecentLocations(db, device)),
  },
  {
    name: 'getHourlyStats, 7 days, ms',
    turns: 20,
    measure: ({ db }) => timed(() => getHourlyStats(db, device)),
  },
  {
    name: 'getTrack, 7 days, 500 points, ms',
    turns: 20,
    measure: ({ db }) => timed(() => getTrack(db, device, { ...lastWeek(), maxPoints: 500 })),
  },
  {
    name: 'getLatestLocations, 10 devices, ms',
    turns: 20,
    measure: ({ db }) => timed(() => getLatestLocations(db, { deviceIds: ten })),
  },
  {
    name: 'getLatestLocations of an application, ms per 1,000 devices',
    turns: 20,
    measure: async ({ db, devices }) => {
      const ms = await timed(() => getLatestLocations(db, { appSource: 'pshop' }));
      return (ms * 1_000) / ((otherDevices + devices) / 2);
    },
  },
  {
    name: 'refresh of a day, ms per million points',
    turns: 3,
    measure: (fleet) =>
      timed(() =>
        fleet.db.query(
          "CALL refresh_continuous_aggregate('location_hourly', date_trunc('day', now()) - interval '10 days', date_trunc('day', now()) - interval '9 days', force => true)",
        ),
      ).then(perMillion(fleet)),
  },
  {
    name: 'compression of a day, ms per million points',
    turns: 5,
    measure: (fleet) => recompress(fleet.db).then(perMillion(fleet)),
  },
  { name: 'bytes per point', turns: 1, measure: bytesPerPoint },
  // The last one, because it leaves dead rows.
  {
    name: 'importLocations of 100,000, ms',
    turns: 5,
    measure: ({ db }) => importAndTakeBack(db),
  },
];

const perMillion =
  ({ devices }: FleetDatabase) =>
  (ms: number): number =>
    ms / ((devices * (day / stepMs)) / 1_000_000);

/** Of the days before today: the other figures write points of today. */
async function bytesPerPoint({ db }: FleetDatabase): Promise<number> {
  const midnight = [new Date(new Date().setUTCHours(0, 0, 0, 0))];
  const bytes = await queryNumber(
    db,
    `SELECT sum(total_bytes) FROM chunks_detailed_size('location_events') AS size
       JOIN timescaledb_information.chunks AS chunk USING (chunk_schema, chunk_name)
     WHERE range_end <= $1::timestamptz`,
    midnight,
  );
  return bytes / (await queryNumber(db, 'SELECT count(*) FROM location_events WHERE time < $1', midnight));
}

/** Imports recent points of devices outside the fleet, and rolls the import back. @returns the milliseconds of both. */
async function importAndTakeBack(db: Pool): Promise<number> {
  const fleet = { rows: 100_000, devices: otherDevices, firstDevice: 1_000_000, stepMs: 1_000 };
  const csv = await Readable.from(fleetCsv(fleet)).toArray();
  return timed(() =>
    takenBack(db, (transaction) =>
      importLocations(transaction, { format: 'csv', stream: Readable.from(csv) }),
    ),
  );
}

/** Runs `work` in a transaction and rolls it back. */
async function takenBack(db: Pool, work: (transaction: Transaction) => Promise<unknown>): Promise<void> {
  const done = new Error('taken back');
  await withTransaction(db, async (transaction) => {
    await work(transaction);
    throw done;
  }).catch((error: unknown) => {
    if (error !== done) throw error;
  });
}

/** One current point for each device outside the fleet. As in the fleet, half of them belong to pshop. */
function pointsNow(): LocationInput[] {
  const time = new Date();
  return Array.from({ length: otherDevices }, (_, number) => ({
    time,
    deviceId: benchUuid('other device', number),
    userId: benchUuid('user', number),
    appSource: number % 2 === 0 ? 'mextrack' : 'pshop',
    latitude: -34.6,
    longitude: -58.4,
    speed: 40,
  }));
}

/**
 * Decompresses the chunk of one day, lets the server finish writing it, and compresses it.
 * @returns the milliseconds of the compression.
 */
async function recompress(db: Pool): Promise<number> {
  const chunk = `show_chunks('location_events', newer_than => now()::date - 10, older_than => now()::date - 9)`;
  await db.query(`SELECT decompress_chunk(c) FROM ${chunk} AS c`);
  await db.query('VACUUM location_events');
  await db.query('CHECKPOINT');
  return timed(() => db.query(`SELECT compress_chunk(c) FROM ${chunk} AS c`));
}

/** Removes the oldest, incomplete day twice: with a DELETE that is rolled back, then as the retention policy does. */
async function benchRetention(db: Pool): Promise<{ deleteMs: number; dropMs: number }> {
  const end = `date_trunc('day', now()) - interval '${days - 1} days'`;
  let deleteMs = 0;
  await takenBack(db, async (transaction) => {
    deleteMs = await timed(() => transaction.query(`DELETE FROM location_events WHERE time < ${end}`));
  });
  const dropMs = await timed(() => db.query(`SELECT drop_chunks('location_events', older_than => ${end})`));
  return { deleteMs, dropMs };
}

/** Measures the planning time in milliseconds, first with the chunks of one month, then of ten months. */
async function benchPlanning(db: Pool): Promise<{ few: number; many: number }> {
  const { text, parameters } = recentLocationsQuery(device);
  const planning = async () => {
    const samples: number[] = [];
    for (let time = 0; time < 20; time += 1) {
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

/** Prints the small database's own values, then how many times as much each size needs: median, least and most. */
function report(measured: readonly SizeMeasured[]): void {
  const first = measured[0]?.figures ?? [];
  printTable(
    ['figure', 'small', ...measured.map(({ rows }) => `${formatCount(Math.round(rows / 1e5) / 10)} million`)],
    first.map(({ name }, index) => [
      name,
      format(median(measured.map(({ figures }) => figures[index]?.small.median ?? Number.NaN))),
      ...measured.map(({ figures }) => describeRatio(figures[index]?.ratio)),
    ]),
  );
  console.log();
}

const describeRatio = (ratio: Spread | undefined): string =>
  ratio ? `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)} to ${ratio.max.toFixed(2)})` : '';
const format = (value: number) => (value >= 100 ? formatCount(Math.round(value)) : value.toFixed(2));
