// Benchmark of writes: writes the same points in every way that an application can.
import { execFileSync } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type * as tracking from '../../schema/tracking.ts';
import { locationEvents } from '../../schema/tracking.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import type { Pool } from '../../src/pool.ts';
import { readTimescale } from '../../src/timescale/catalog.ts';
import { isOlder } from '../../src/timescale/timescale.ts';
import {
  createLocationWriter,
  importLocations,
  type LocationInput,
  recordLocations,
} from '../../src/tracking/index.ts';
import { columnNames } from '../../src/tracking/rows.ts';
import { withTransaction } from '../../src/transaction.ts';
import { libpqEnvironment } from '../backup/client/environment.ts';
import { runClientProgram } from '../backup/client/run.ts';
import { formatCount } from '../cli/output.ts';
import { startBar } from '../cli/progress.ts';
import { csvOf, fleetRows } from './rows.ts';
import { type Measure, median, queryNumber, timed } from './timing.ts';

interface Way {
  what: string;
  /** The names of the ways that this way is compared with. */
  against: readonly string[];
  /** Number of rows to write. Slow ways write fewer rows, because all of them would take minutes. */
  rows: number;
  write: (events: readonly LocationInput[]) => Promise<unknown>;
}

const day = 86_400_000;
const oldDevices = 100;
const drizzleSingle = 'drizzle insert of one row';
const drizzleMany = 'drizzle .values() of 1,000';
const psqlCopy = 'psql \\copy';
const psqlCopyOld = 'psql \\copy, 10 to 20 days ago';
const psqlCopyCompressed = 'psql \\copy, 10 to 20 days ago, enable_direct_compress_copy';

export async function benchWrites(
  db: Pool<typeof tracking>,
  url: string,
  events: readonly LocationInput[],
  rounds: number,
  folder: string,
): Promise<Measure[]> {
  const csv = join(folder, 'rows.csv');
  await writeCsv(csv, events);
  const ways = waysToWrite(db, url, csv, events.length);
  const timescale = await readTimescale(db);
  if (timescale && hasPsql() && !isOlder(timescale.version, '2.24')) {
    const oldCsv = join(folder, 'old.csv');
    const from = new Date(Date.now() - 20 * day);
    const interval = (10 * 86_400 * oldDevices) / events.length;
    await writeCsv(oldCsv, fleetRows({ rows: events.length, devices: oldDevices, from, interval }));
    ways.push(...waysToWriteOld(db, url, oldCsv, events.length));
  }
  const speeds = new Map<string, number[]>(ways.map(({ what }) => [what, []]));
  using bar = startBar('{bar} {what}', rounds * ways.length, { what: '' });
  for (let round = 0; round < rounds; round += 1) {
    // Each round starts with another way, so that none always runs first.
    for (const way of [...ways.slice(round), ...ways.slice(0, round)]) {
      bar.update({ what: way.what });
      await db.query('TRUNCATE location_events');
      await db.query('CHECKPOINT');
      const given = events.slice(0, way.rows);
      const time = await timed(() => way.write(given));
      speeds.get(way.what)?.push((way.rows / time) * 1000);
      await expectRows(db, way);
      bar.increment();
    }
  }
  const speed = (what: string) => speeds.get(what) ?? [];
  return ways.flatMap(({ what, against }) =>
    against.map((peer): Measure => {
      const ratios = speed(what).map((value, round) => value / (speed(peer)[round] ?? Number.NaN));
      return {
        what,
        value: median(speed(what)),
        unit: 'rows/s',
        ratio: median(ratios),
        ratioRange: [Math.min(...ratios), Math.max(...ratios)],
        against: peer,
      };
    }),
  );
}

function waysToWrite(db: Pool<typeof tracking>, url: string, csv: string, all: number): Way[] {
  const inSlices = (size: number, write: (slice: LocationInput[]) => Promise<unknown>) => {
    return async (events: readonly LocationInput[]) => {
      for (let start = 0; start < events.length; start += size)
        await write(events.slice(start, start + size));
    };
  };
  const copied = { against: hasPsql() ? [psqlCopy] : [drizzleMany], rows: all };
  const recorded = [100, 1_000, 10_000].map((size) => ({
    against: [drizzleMany],
    what: `recordLocations of ${formatCount(size)}`,
    rows: Math.min(all, size * 300),
    write: inSlices(size, (slice) => recordLocations(db, slice)),
  }));
  const ways: Way[] = [
    {
      what: drizzleSingle,
      against: [drizzleMany],
      rows: Math.min(all, 3_000),
      write: inSlices(1, (slice) => db.orm.insert(locationEvents).values(slice)),
    },
    {
      what: drizzleMany,
      against: [drizzleMany],
      rows: Math.min(all, 50_000),
      write: inSlices(1_000, (slice) => db.orm.insert(locationEvents).values(slice)),
    },
    ...recorded,
    {
      what: 'writer, 1,000 devices, each awaited',
      against: [...copied.against, drizzleSingle],
      rows: all,
      write: (events) => writeAwaited(db, events),
    },
    { ...copied, what: 'importLocations of CSV', write: () => importLocations(db, readCsv(csv)) },
    {
      ...copied,
      what: 'importLocations of CSV, once',
      write: () => importLocations(db, readCsv(csv), { once: true }),
    },
    { ...copied, what: 'importLocations of points', write: (events) => importLocations(db, events) },
  ];
  const psql: Way = { ...copied, what: psqlCopy, write: () => copyWithPsql(url, csv) };
  return hasPsql() ? [...ways, psql] : ways;
}

/** Ways to write rows that are old enough for compressed chunks. The rows are sorted by time. */
function waysToWriteOld(db: Pool, url: string, csv: string, rows: number): Way[] {
  const against = [psqlCopyOld, psqlCopyCompressed];
  return [
    // Inside a transaction, the import does not refresh hours. \copy does not refresh them either.
    {
      what: 'importLocations of CSV, 10 to 20 days ago',
      against,
      rows,
      write: () => withTransaction(db, (transaction) => importLocations(transaction, readCsv(csv))),
    },
    {
      what: '… and its hours refreshed',
      against,
      rows,
      write: () => importLocations(db, readCsv(csv)),
    },
    { what: psqlCopyOld, against: [psqlCopyOld], rows, write: () => copyWithPsql(url, csv) },
    {
      what: psqlCopyCompressed,
      against: [psqlCopyOld],
      rows,
      write: () => copyWithPsql(url, csv, ['-c', 'SET timescaledb.enable_direct_compress_copy = on']),
    },
  ];
}

const readCsv = (path: string) => ({
  format: 'csv' as const,
  stream: createReadStream(path, { highWaterMark: 262_144 }),
});

/** Writes like a service: each device sends a point only after its previous point is written. */
export async function writeAwaited(db: Pool, events: readonly LocationInput[]): Promise<void> {
  const devices = new Map<string, LocationInput[]>();
  for (const event of events) {
    const own = devices.get(event.deviceId);
    if (own) own.push(event);
    else devices.set(event.deviceId, [event]);
  }
  await using writer = createLocationWriter(db);
  await Promise.all(
    [...devices.values()].map(async (own) => {
      for (const event of own) await writer.write(event);
    }),
  );
}

const writeCsv = (path: string, events: readonly LocationInput[]): Promise<void> =>
  pipeline(csvOf(events), createWriteStream(path));

function hasPsql(): boolean {
  try {
    execFileSync('psql', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const copyWithPsql = (url: string, csv: string, before: readonly string[] = []): Promise<string> => {
  const copy = `\\copy location_events (${columnNames}) FROM '${csv}' CSV HEADER`;
  const environment = libpqEnvironment(parseDatabaseUrl(url, 'tracking'));
  return runClientProgram('psql', ['-q', ...before, '-c', copy], { environment });
};

async function expectRows(db: Pool, { what, rows }: Way): Promise<void> {
  const found = await queryNumber(db, 'SELECT count(*) FROM location_events');
  if (found !== rows) throw new Error(`${what} wrote ${found} of ${rows} rows.`);
}
