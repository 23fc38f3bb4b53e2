// Benchmark of writes: the same points in every way that an application can write them.
import { execFileSync } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type * as tracking from '../../schema/tracking.ts';
import { locationEvents } from '../../schema/tracking.ts';
import { childEnvironment } from '../../src/config.ts';
import type { Pool } from '../../src/pool.ts';
import { locationColumns } from '../../src/tracking/columns.ts';
import {
  createLocationWriter,
  importLocations,
  type LocationInput,
  recordLocations,
} from '../../src/tracking/index.ts';
import { startBar } from '../cli/progress.ts';
import { type Measure, median } from './timing.ts';

interface Way {
  what: string;
  /** Number of rows to write; slow ways would take minutes for all of them. */
  rows: number;
  write: (events: readonly LocationInput[]) => Promise<unknown>;
}

const drizzleSingle = 'drizzle insert of one row';
const drizzleMany = 'drizzle .values() of 1,000';
const psqlCopy = 'psql \\copy';

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
  const speeds = new Map<string, number[]>(ways.map(({ what }) => [what, []]));
  using bar = startBar('{bar} {what}', rounds * ways.length, { what: '' });
  for (let round = 0; round < rounds; round += 1) {
    // Each round starts with another way, so that none always runs first.
    for (const way of [...ways.slice(round), ...ways.slice(0, round)]) {
      bar.update({ what: way.what });
      await db.query('TRUNCATE location_events');
      await db.query('CHECKPOINT');
      const given = events.slice(0, way.rows);
      const begin = performance.now();
      await way.write(given);
      speeds.get(way.what)?.push((way.rows / (performance.now() - begin)) * 1000);
      await expectRows(db, way);
      bar.increment();
    }
  }
  const speed = (what: string) => median(speeds.get(what) ?? []);
  const hasPsql = speeds.has(psqlCopy);
  return ways.flatMap(({ what }) => {
    const against = what.startsWith('recordLocations') || !hasPsql ? drizzleMany : psqlCopy;
    const measure = (peer: string): Measure => ({
      what,
      value: speed(what),
      unit: 'rows/s',
      ratio: speed(what) / speed(peer),
      against: peer,
    });
    return what.startsWith('writer') ? [measure(against), measure(drizzleSingle)] : [measure(against)];
  });
}

function waysToWrite(db: Pool<typeof tracking>, url: string, csv: string, all: number): Way[] {
  const inSlices = (size: number, write: (slice: LocationInput[]) => Promise<unknown>) => {
    return async (events: readonly LocationInput[]) => {
      for (let start = 0; start < events.length; start += size)
        await write(events.slice(start, start + size));
    };
  };
  const recorded = [100, 1_000, 10_000].map((size) => ({
    what: `recordLocations of ${size.toLocaleString('en-US')}`,
    rows: Math.min(all, size * 300),
    write: inSlices(size, (slice) => recordLocations(db, slice)),
  }));
  const ways: Way[] = [
    {
      what: drizzleSingle,
      rows: Math.min(all, 3_000),
      write: inSlices(1, (slice) => db.orm.insert(locationEvents).values(slice)),
    },
    {
      what: drizzleMany,
      rows: Math.min(all, 50_000),
      write: inSlices(1_000, (slice) => db.orm.insert(locationEvents).values(slice)),
    },
    ...recorded,
    { what: 'writer, 1,000 devices, each awaited', rows: all, write: (events) => writeAwaited(db, events) },
    {
      what: 'importLocations of CSV',
      rows: all,
      write: () =>
        importLocations(db, { format: 'csv', stream: createReadStream(csv, { highWaterMark: 262_144 }) }),
    },
    { what: 'importLocations of points', rows: all, write: (events) => importLocations(db, events) },
  ];
  const psql: Way = { what: psqlCopy, rows: all, write: async () => copyWithPsql(url, csv) };
  return hasPsql() ? [...ways, psql] : ways;
}

/** Like a service: every device waits until its point is written before it sends the next one. */
async function writeAwaited(db: Pool, events: readonly LocationInput[]): Promise<void> {
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

async function writeCsv(path: string, events: readonly LocationInput[]): Promise<void> {
  function* lines() {
    yield `${locationColumns.map(({ name }) => name).join(',')}\n`;
    for (const event of events) {
      const cells = locationColumns.map(({ property }) => {
        const value = event[property];
        return value instanceof Date ? value.toISOString() : (value ?? '');
      });
      yield `${cells.join(',')}\n`;
    }
  }
  await pipeline(Readable.from(lines()), createWriteStream(path));
}

function hasPsql(): boolean {
  try {
    execFileSync('psql', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function copyWithPsql(url: string, csv: string): void {
  const target = new URL(url);
  const password = decodeURIComponent(target.password);
  target.password = '';
  const columns = locationColumns.map(({ name }) => name).join(', ');
  execFileSync(
    'psql',
    ['-q', '-d', target.href, '-c', `\\copy location_events (${columns}) FROM '${csv}' CSV HEADER`],
    {
      env: childEnvironment({ PGPASSWORD: password }),
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
}

async function expectRows(db: Pool, { what, rows }: Way): Promise<void> {
  const { rows: counted } = await db.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM location_events',
  );
  const found = counted[0]?.count;
  if (found !== rows) throw new Error(`${what} wrote ${found} of ${rows} rows.`);
}
