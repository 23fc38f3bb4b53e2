// Writes GPS points: one statement of eleven array parameters for thousands of rows.
import type { Database } from '../pool.ts';
import { type LocationInput, locationColumns } from './columns.ts';
import { LocationsRejectedError, type RejectedLocation, validateLocations } from './validate.ts';

/** Enough to amortise the round trip, small enough to keep one statement's memory in the low megabytes. */
const rowsPerStatement = 5_000;

const names = locationColumns.map(({ name }) => name).join(', ');
const arrays = locationColumns.map(({ type }, index) => `$${index + 1}::${type}[]`).join(', ');
const insert = `INSERT INTO location_events (${names}) SELECT ${names} FROM unnest(${arrays}) AS t (${names})`;

export interface RecordOptions {
  /** What happens to a batch with points that do not fit. Default `reject`: none of it is stored. */
  onInvalid?: 'reject' | 'skip';
}

export interface RecordResult {
  written: number;
  /** Points that were left out, which only `onInvalid: 'skip'` allows. */
  rejected: readonly RejectedLocation[];
}

/**
 * Writes one point.
 * @throws LocationsRejectedError when it does not fit, with the reason.
 */
export async function recordLocation(db: Database, event: LocationInput): Promise<void> {
  await recordLocations(db, [event]);
}

/**
 * Writes many points, rounded to what the columns keep. Each statement takes 5,000 of them and is
 * atomic; inside of `withTransaction` all of them are.
 * @throws LocationsRejectedError with the index and reason of each point that does not fit: nothing was written.
 */
export async function recordLocations(
  db: Database,
  events: readonly LocationInput[],
  { onInvalid = 'reject' }: RecordOptions = {},
): Promise<RecordResult> {
  const { valid, rejected } = validateLocations(events);
  if (rejected.length > 0 && onInvalid === 'reject') throw new LocationsRejectedError(rejected);
  return { written: await insertLocations(db, valid), rejected };
}

/** Writes points that were checked where they entered. */
export async function insertLocations(db: Database, events: readonly LocationInput[]): Promise<number> {
  let written = 0;
  for (let start = 0; start < events.length; start += rowsPerStatement) {
    const batch = events.slice(start, start + rowsPerStatement);
    const { rowCount } = await db.query(
      insert,
      // jsonb as text: an array inside of an array parameter would become a dimension of it.
      locationColumns.map(({ property, type }) =>
        batch.map((event) => (type === 'jsonb' ? toJson(event[property]) : event[property])),
      ),
    );
    written += rowCount;
  }
  return written;
}

const toJson = (value: unknown) => (value === null || value === undefined ? null : JSON.stringify(value));
