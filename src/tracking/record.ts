// Writes locations: a few with one INSERT of arrays, many with COPY.
import { copyFrom } from '../driver/copy.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { Transaction, withTransaction } from '../transaction.ts';
import type { LocationInput } from './columns.ts';
import { arraysOf, columnNames, copyStatement, encodeCopy, unnestLocations } from './rows.ts';
import {
  LocationsRejectedError,
  locationLimits,
  type RejectedLocation,
  validateLocations,
  type ZeroPositionOption,
} from './validate.ts';

/** From this number of rows on, COPY is faster than INSERT, although it needs more round trips (bench: tracking). */
export const rowsForCopy = 400;
/** Limits the memory of one statement to a few megabytes. */
const rowsPerStatement = 5_000;

const insert = `INSERT INTO location_events (${columnNames}) SELECT ${columnNames} FROM ${unnestLocations(1)}`;

export interface RecordOptions extends ZeroPositionOption {
  /** `reject` (default) refuses a batch with invalid locations; `skip` stores its valid ones. */
  onInvalid?: 'reject' | 'skip';
}

export interface RecordResult {
  written: number;
  /** Invalid locations, which `onInvalid: 'skip'` left out. */
  rejected: readonly RejectedLocation[];
}

/**
 * Writes one location.
 * @throws LocationsRejectedError with the reason if it is not valid.
 */
export async function recordLocation(
  db: AnyDatabase,
  location: LocationInput,
  options: ZeroPositionOption = {},
): Promise<void> {
  await recordLocations(db, [location], options);
}

/**
 * Writes many locations, all or none, rounded to the scale of the columns. A location is not valid if it is older than
 * the raw retention, or if its application has another database.
 * @throws LocationsRejectedError with the index and reason of each invalid location, unless `onInvalid` is `skip`.
 */
export async function recordLocations(
  db: AnyDatabase,
  locations: readonly LocationInput[],
  { onInvalid = 'reject', ...allowed }: RecordOptions = {},
): Promise<RecordResult> {
  const { valid, rejected } = validateLocations(
    locations,
    locationLimits({ ...allowed, foreignSources: databaseOf(db).foreignSources }),
  );
  if (rejected.length > 0 && onInvalid === 'reject') throw new LocationsRejectedError(rejected);
  await insertLocations(db, valid);
  return { written: valid.length, rejected };
}

/** Writes locations that have passed validation, all or none. */
export async function insertLocations(db: AnyDatabase, locations: readonly LocationInput[]): Promise<void> {
  const database = databaseOf(db);
  if (database instanceof Transaction) await appendLocations(database, locations);
  else if (locations.length >= rowsForCopy)
    await withTransaction(database, (transaction) => appendLocations(transaction, locations));
  else if (locations.length > 0) await database.query(insert, arraysOf(locations));
}

/** Writes validated locations in the caller's transaction. */
export async function appendLocations(
  transaction: Transaction,
  locations: readonly LocationInput[],
): Promise<void> {
  if (locations.length >= rowsForCopy && (await takesCopy(transaction))) {
    await copyFrom(transaction, copyStatement, encodeCopy(locations));
    return;
  }
  for (let start = 0; start < locations.length; start += rowsPerStatement) {
    await transaction.query(insert, arraysOf(locations.slice(start, start + rowsPerStatement)));
  }
}

// $1 and $2, the oldest and the newest time, limit the chunks to search. The search uses the index on device and time.
const insertNew = `INSERT INTO location_events (${columnNames})
  SELECT DISTINCT ON (device_id, time) ${columnNames} FROM ${unnestLocations(3)}
  WHERE NOT EXISTS (
    SELECT FROM location_events AS stored WHERE stored.device_id = location.device_id AND stored.time = location.time
      AND stored.time BETWEEN $1::timestamptz AND $2::timestamptz)`;

/** Writes the locations that are not stored yet, compared by device and time. @returns the number written. */
export async function appendNewLocations(
  transaction: Transaction,
  locations: readonly LocationInput[],
): Promise<number> {
  if (locations.length === 0) return 0;
  const times = locations.map(({ time }) => time.getTime());
  const range = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
  const { rowCount } = await transaction.query(insertNew, [
    ...range.map((time) => new Date(time)),
    ...arraysOf(locations),
  ]);
  return rowCount;
}

/** Whether location_events is a table, as COPY requires. For an application, it may be a view of its own locations. */
export async function takesCopy(db: AnyDatabase): Promise<boolean> {
  const { rows } = await databaseOf(db).query<{ table: boolean }>(
    "SELECT relkind IN ('r', 'p') AS table FROM pg_catalog.pg_class WHERE oid = to_regclass('location_events')",
  );
  return rows[0]?.table ?? true;
}
