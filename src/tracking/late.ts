// Late points: hours that the refresh policy has left behind are noted when points reach them, and refreshed by a job.
import { randomUUID } from 'node:crypto';
import { trackingPolicies } from '../../schema/tracking.ts';
import { sqlState } from '../errors.ts';
import type { Database, Pool } from '../pool.ts';
import { refreshContinuousAggregate } from '../timescale.ts';
import type { LocationInput } from './columns.ts';
import { milliseconds } from './interval.ts';

const hour = 3_600_000;
const { refresh } = trackingPolicies.location_hourly;
/** The policy runs every half hour and may be behind: an hour of its last day counts as late already. */
const lateAfter = milliseconds(refresh.startOffset) - milliseconds('1 day');
const endOffset = milliseconds(refresh.endOffset);
/** The chunk at the edge of the retention may be half gone: a refresh stays a day away from it. */
const refreshable = milliseconds(trackingPolicies.location_events.retention) - milliseconds('1 day');

/** Whether no later run of the refresh policy may be trusted to cover a time, in milliseconds since 1970. */
export const isLate = (at: number, now = Date.now()): boolean => at < now - lateAfter;

/** The hours of late points, in milliseconds since 1970. */
export function lateHours(events: readonly LocationInput[]): Set<number> {
  const hours = new Set<number>();
  const now = Date.now();
  for (const { time } of events) {
    const at = time.getTime();
    if (isLate(at, now)) hours.add(at - (at % hour));
  }
  return hours;
}

/**
 * Notes hours in the transaction that writes their points, so that neither is there without the other.
 * @returns the ids of the notes.
 */
export async function noteLateHours(db: Database, hours: ReadonlySet<number>): Promise<string[]> {
  if (hours.size === 0) return [];
  const ids = [...hours].map(() => randomUUID());
  await db.query(
    'INSERT INTO location_late_hours (id, hour) SELECT * FROM unnest($1::uuid[], $2::timestamptz[])',
    [ids, [...hours].map((at) => new Date(at))],
  );
  return ids;
}

/** Takes notes back whose hours were refreshed. */
export async function forgetLateHours(db: Database, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await db.query('DELETE FROM location_late_hours WHERE id = ANY($1::uuid[])', [ids]);
}

export interface LateRefresh {
  /** Ranges of whole hours that were refreshed, oldest first. */
  ranges: { from: Date; to: Date }[];
  /** Hours whose raw points may be dropped already: a refresh would delete what their summary has. */
  tooOld: Date[];
}

/**
 * Refreshes the hours of `location_hourly` that got points after the refresh policy had left them
 * behind, and nothing else; never where raw points may have been dropped. Notes of hours that have not
 * come are deleted without a refresh. Safe to run at any time and
 * more than once: an hour stays noted until its refresh is done. Run it every hour or so.
 * @throws ValidationError or TimescaleMissingError where there is no continuous aggregate.
 */
export async function refreshLateLocations(
  db: Pool,
  { onProgress }: { onProgress?: (done: number, total: number) => void } = {},
): Promise<LateRefresh> {
  const { rows } = await db.primary.query<{ hour: Date; ids: string[] }>(
    'SELECT hour, array_agg(id) AS ids FROM location_late_hours GROUP BY hour ORDER BY hour',
  );
  const oldest = Date.now() - refreshable;
  const tooOld = rows.filter(({ hour }) => hour.getTime() < oldest).map(({ hour }) => hour);
  // No writer notes an hour that has not come, but a row may be inserted by hand: there is nothing to refresh.
  const noted = rows.filter(({ hour }) => hour.getTime() >= oldest && hour.getTime() <= Date.now());
  const ranges = rangesOf(noted.map(({ hour }) => hour.getTime()));
  for (const [index, range] of ranges.entries()) {
    await refreshWhenFree(db, range);
    onProgress?.(index + 1, ranges.length);
  }
  // Only what was read above: a note that came meanwhile is of points that the refresh may not have seen.
  await db.query('DELETE FROM location_late_hours WHERE id = ANY($1::uuid[])', [
    rows.flatMap(({ ids }) => ids),
  ]);
  return { ranges, tooOld };
}

/** Refreshes these hours where the policy's window does not reach or has not come yet. @returns what it did. */
export async function refreshHours(db: Pool, hours: ReadonlySet<number>): Promise<LateRefresh['ranges']> {
  const [oldest, newest] = [Date.now() - refreshable, Date.now() - endOffset - hour];
  const ranges = rangesOf(
    [...hours].filter((at) => at >= oldest && at <= newest).sort((one, two) => one - two),
  );
  for (const range of ranges) await refreshWhenFree(db, range);
  return ranges;
}

/** Neighbouring hours in one range: each refresh has a cost of its own. */
function rangesOf(hours: readonly number[]): { from: Date; to: Date }[] {
  const ranges: { from: Date; to: Date }[] = [];
  for (const at of hours) {
    const last = ranges.at(-1);
    if (last && at <= last.to.getTime()) last.to = new Date(at + hour);
    else ranges.push({ from: new Date(at), to: new Date(at + hour) });
  }
  return ranges;
}

// The policy may refresh at the same moment: 55P03 lock_not_available, 55006 object_in_use, 40001 and
// 40P01 a collision. It is done soon.
async function refreshWhenFree(db: Pool, range: { from: Date; to: Date }): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await refreshContinuousAggregate(db, 'location_hourly', range);
    } catch (error) {
      if (attempt === 5 || !['55P03', '55006', '40001', '40P01'].includes(sqlState(error) ?? '')) throw error;
      await new Promise((resolve) => setTimeout(resolve, attempt * 1000));
    }
  }
}
