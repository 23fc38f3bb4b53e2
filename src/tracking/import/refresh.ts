// Refreshes the hours that an import touched, which the refresh policies would get to later.
import { trackingPolicies } from '../../../schema/tracking.ts';
import { sqlState } from '../../errors.ts';
import type { Pool } from '../../pool.ts';
import { refreshContinuousAggregate } from '../../timescale/timescale.ts';
import type { TimeRange } from '../history.ts';
import { milliseconds } from '../interval.ts';

const hour = 3_600_000;
const endOffset = milliseconds(trackingPolicies.location_hourly.refresh.endOffset);
/** Where raw locations were dropped, a refresh would delete the summary of the hour: it stays a day away from them. */
const refreshable = milliseconds(trackingPolicies.location_events.retention) - milliseconds('1 day');

/** Refreshes these hours, in milliseconds since 1970, that are over and inside of the raw retention. @returns what it did. */
export async function refreshHours(db: Pool, hours: ReadonlySet<number>): Promise<TimeRange[]> {
  const [oldest, newest] = [Date.now() - refreshable, Date.now() - endOffset - hour];
  const ranges = rangesOf(
    [...hours].filter((at) => at >= oldest && at <= newest).sort((one, two) => one - two),
  );
  for (const range of ranges) await refreshWhenFree(db, range);
  return ranges;
}

/** Neighbouring hours in one range: each refresh has a cost of its own. */
function rangesOf(hours: readonly number[]): TimeRange[] {
  const ranges: TimeRange[] = [];
  for (const at of hours) {
    const last = ranges.at(-1);
    if (last && at <= last.to.getTime()) last.to = new Date(at + hour);
    else ranges.push({ from: new Date(at), to: new Date(at + hour) });
  }
  return ranges;
}

// A policy may refresh at the same moment: 55P03 lock_not_available, 55006 object_in_use, 40001 and
// 40P01 a collision. It is done soon.
async function refreshWhenFree(db: Pool, range: TimeRange): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await refreshContinuousAggregate(db, 'location_hourly', range);
    } catch (error) {
      if (attempt === 5 || !['55P03', '55006', '40001', '40P01'].includes(sqlState(error) ?? '')) throw error;
      await new Promise((resolve) => setTimeout(resolve, attempt * 1000));
    }
  }
}
