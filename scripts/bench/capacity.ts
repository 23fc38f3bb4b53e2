// Measures the bytes per GPS point, before and after compression, and per row of the hourly aggregate.

import { migrate } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteStorage, readAggregateStorage } from '../../src/timescale/catalog.ts';
import { recordLocations } from '../../src/tracking/index.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { drive } from '../simulation/fleet.ts';
import { scratchName } from './scratch.ts';
import { queryNumber } from './timing.ts';

const hour = 3_600_000;

/** Simulates vehicles that drive 8 hours a day and send a point every 30 seconds, in a scratch database. */
export async function benchCapacity(vehicles: number, days: number): Promise<void> {
  await withScratchDatabase('tracking', scratchName('capacity'), async (pool) => {
    await migrate(pool, 'tracking');
    const points = await load(pool, vehicles, days);
    const raw = await sizeOf(pool, 'location_events');
    const indexes = await queryNumber(
      pool,
      "SELECT sum(index_bytes) FROM hypertable_detailed_size('location_events')",
    );
    await pool.query("CALL refresh_continuous_aggregate('location_hourly', NULL, NULL)");
    const hours = await queryNumber(pool, 'SELECT count(*) FROM location_hourly');
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

/** Returns the size of all chunks in bytes, with their indexes and TOAST. */
const sizeOf = (pool: Pool, hypertable: string): Promise<number> =>
  queryNumber(pool, 'SELECT hypertable_size($1::regclass)', [hypertable]);
