// Refreshes the hours that an import changed, so that they need not wait for the refresh policies.
import { setTimeout as sleep } from 'node:timers/promises';
import { trackingPolicies } from '../../../schema/tracking.ts';
import { sqlState } from '../../errors.ts';
import type { Pool } from '../../pool.ts';
import { refreshContinuousAggregate } from '../../timescale/timescale.ts';
import type { TimeRange } from '../history.ts';
import { milliseconds } from '../interval.ts';

const hour = 3_600_000;
const endOffset = milliseconds(trackingPolicies.location_hourly.refresh.endOffset);
/**
 * Maximum age of a refreshed hour in milliseconds, a day less than the raw retention. Refreshing an hour whose raw
 * locations were dropped would delete its summary.
 */
const refreshable = milliseconds(trackingPolicies.location_events.retention) - milliseconds('1 day');

/**
 * Refreshes the hours that ended at least `endOffset` ago and are not older than `refreshable`.
 * @param hours Starts of hours, in milliseconds since 1970.
 * @returns the ranges that it refreshed.
 */
export async function refreshHours(db: Pool, hours: ReadonlySet<number>): Promise<TimeRange[]> {
  const [oldest, newest] = [Date.now() - refreshable, Date.now() - endOffset - hour];
  const ranges = rangesOf(
    [...hours].filter((at) => at >= oldest && at <= newest).sort((one, two) => one - two),
  );
  for (const range of ranges) await refreshWhenFree(db, range);
  return ranges;
}

/** Joins adjacent hours into one range, because each refresh has a fixed cost. */
function rangesOf(hours: readonly number[]): TimeRange[] {
  const ranges: TimeRange[] = [];
  for (const at of hours) {
    const last = ranges.at(-1);
    if (last && at <= last.to.getTime()) last.to = new Date(at + hour);
    else ranges.push({ from: new Date(at), to: new Date(at + hour) });
  }
  return ranges;
}

// Repeats a refresh that collides with the refresh of a policy, which ends soon: 55P03 lock_not_available, 55006
// object_in_use, 40001 serialization_failure, 40P01 deadlock_detected.
async function refreshWhenFree(db: Pool, range: TimeRange): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await refreshContinuousAggregate(db, 'location_hourly', range);
    } catch (error) {
      if (attempt === 5 || !['55P03', '55006', '40001', '40P01'].includes(sqlState(error) ?? '')) throw error;
      await sleep(attempt * 1000);
    }
  }
}
