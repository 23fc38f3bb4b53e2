// What an import means for the hourly aggregate: which hours to refresh, which points are too old.
import { trackingPolicies } from '../../schema/tracking.ts';
import type { Database, Pool } from '../../src/pool.ts';
import { refreshContinuousAggregate } from '../../src/timescale.ts';

const hour = 3_600_000;

/** Since when raw points are safe: a refresh of anything older would delete the summary of dropped points. */
export async function describeRetention(db: Database): Promise<{ now: Date; retentionStart: Date }> {
  const { rows } = await db.query<{ now: Date; retentionStart: Date }>(
    `SELECT now(), now() - $1::interval AS "retentionStart"`,
    [trackingPolicies.location_events.retention],
  );
  const [row] = rows;
  if (!row) throw new Error('SELECT without FROM returned no row.');
  return row;
}

/**
 * Refreshes the whole hours of a loaded range. The policy's window reaches back a few days only;
 * hours that it never covers would otherwise miss what was loaded into them.
 */
export async function refreshImported(pool: Pool, from: Date | null, to: Date | null): Promise<void> {
  if (!from || !to) return;
  const { now, retentionStart } = await describeRetention(pool);
  // The chunk at the edge of the retention may be half gone: stay a day away from it.
  const oldest = Math.max(from.getTime(), retentionStart.getTime() + 24 * hour);
  const newest = Math.min(to.getTime() + hour, now.getTime() - hour);
  const start = Math.floor(oldest / hour) * hour;
  const end = Math.floor(newest / hour) * hour;
  if (start >= end) return;
  await refreshContinuousAggregate(pool, 'location_hourly', { from: new Date(start), to: new Date(end) });
}
