// Bytes per GPS point: raw with its indexes, compressed, and per row of the hourly aggregate.

import { migrate } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteStorage, readAggregateStorage } from '../../src/timescale/catalog.ts';
import { refreshContinuousAggregate } from '../../src/timescale/timescale.ts';
import { recordLocations } from '../../src/tracking/index.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { drive } from '../simulation/fleet.ts';
import { scratchName } from './scratch.ts';

const hour = 3_600_000;

/** Simulates vehicles, 8 hours a day, a point every 30 seconds, in a scratch database of the tracking server. */
export async function benchCapacity(vehicles: number, days: number): Promise<void> {
  await withScratchDatabase('tracking', scratchName('capacity'), async (pool) => {
    await migrate(pool, 'tracking');
    const points = await load(pool, vehicles, days);
    const raw = await sizeOf(pool, 'location_events');
    const { rows: parts } = await pool.query<{ bytes: number }>(
      "SELECT sum(index_bytes)::float8 AS bytes FROM hypertable_detailed_size('location_events')",
    );
    const indexes = parts[0]?.bytes ?? 0;
    const [first, last] = [await edge(pool, 'min'), await edge(pool, 'max')];
    const to = new Date(Math.ceil((last.getTime() + 1) / hour) * hour);
    await refreshContinuousAggregate(pool, 'location_hourly', { from: first, to });
    const counted = await pool.query<{ hours: number }>('SELECT count(*)::int AS hours FROM location_hourly');
    const hours = counted.rows[0]?.hours ?? 0;
    const storage = await readAggregateStorage(pool, 'location_hourly');
    const hourly = storage ? await sizeOf(pool, quoteStorage(storage)) : 0;
    await pool.query("SELECT compress_chunk(chunk, true) FROM show_chunks('location_events') AS chunk");
    const compressed = await sizeOf(pool, 'location_events');
    const row = (what: string, rows: number, bytes: number) => [
      what,
      formatCount(rows),
      formatBytes(bytes),
      (bytes / rows).toFixed(1),
    ];
    printTable(
      [`${vehicles} vehicles, ${days} days`, 'rows', 'size', 'bytes per row'],
      [
        row('points, raw with indexes', points, raw),
        row('  of which indexes', points, indexes),
        row('points, compressed', points, compressed),
        row('hours of location_hourly', hours, hourly),
      ],
    );
  });
}

async function load(pool: Pool, vehicles: number, days: number): Promise<number> {
  using bar = startBar('{bar} {value} of {total} vehicles', vehicles);
  const end = Math.floor(Date.now() / (24 * hour)) * 24 * hour;
  let written = 0;
  for (let vehicle = 1; vehicle <= vehicles; vehicle += 1) {
    const id = String(vehicle).padStart(12, '0');
    const device = { deviceId: `0e000000-0000-4000-8000-${id}`, userId: `0f000000-0000-4000-8000-${id}` };
    const shifts = Array.from({ length: days }, (_, day) => {
      const to = new Date(end - day * 24 * hour);
      const from = new Date(to.getTime() - 8 * hour + 1);
      return [...drive({ ...device, appSource: 'mextrack', from, to, seed: vehicle * 1000 + day })];
    });
    written += (await recordLocations(pool, shifts.flat())).written;
    bar.increment();
  }
  return written;
}

async function edge(pool: Pool, which: 'min' | 'max'): Promise<Date> {
  const { rows } = await pool.query<{ at: Date }>(`SELECT ${which}(time) AS at FROM location_events`);
  return rows[0]?.at ?? new Date();
}

/** Tables, indexes and TOAST of all chunks, in bytes. */
async function sizeOf(pool: Pool, hypertable: string): Promise<number> {
  const { rows } = await pool.query<{ bytes: number }>(
    'SELECT hypertable_size($1::regclass)::float8 AS bytes',
    [hypertable],
  );
  return rows[0]?.bytes ?? 0;
}
