// Writes GPS points the fastest way for their number: one statement of arrays, or COPY.

import { copyFrom } from '../driver/copy.ts';
import { type Database, Pool } from '../pool.ts';
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

/** From here on COPY is faster than arrays, its additional round trips included (bench: tracking). */
export const rowsForCopy = 400;
/** Keeps one statement's memory in the low megabytes. */
const rowsPerStatement = 5_000;

const insert = `INSERT INTO location_events (${columnNames}) SELECT ${columnNames} FROM ${unnestLocations(1)}`;

export interface RecordOptions extends ZeroPositionOption {
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
export async function recordLocation(
  db: Database,
  location: LocationInput,
  options: ZeroPositionOption = {},
): Promise<void> {
  await recordLocations(db, [location], options);
}

/**
 * Writes many points, rounded to what the columns keep: all of them or, when it throws, none. Points
 * older than the raw retention are refused.
 * @throws LocationsRejectedError with the index and reason of each point that does not fit: nothing was written.
 */
export async function recordLocations(
  db: Database,
  locations: readonly LocationInput[],
  { onInvalid = 'reject', ...allowed }: RecordOptions = {},
): Promise<RecordResult> {
  const { valid, rejected } = validateLocations(locations, locationLimits(allowed));
  if (rejected.length > 0 && onInvalid === 'reject') throw new LocationsRejectedError(rejected);
  await insertLocations(db, valid);
  return { written: valid.length, rejected };
}

/** Writes points that were checked where they entered, as a whole. */
export async function insertLocations(db: Database, locations: readonly LocationInput[]): Promise<void> {
  if (locations.length === 0) return;
  if (locations.length < rowsForCopy) {
    await db.query(insert, arraysOf(locations));
    return;
  }
  await inTransaction(db, (transaction) => appendLocations(transaction, locations));
}

/** The rows alone, inside of a transaction. */
export async function appendLocations(
  transaction: Transaction,
  locations: readonly LocationInput[],
): Promise<void> {
  if (locations.length >= rowsForCopy && (await takesCopy(transaction))) {
    await copyFrom(transaction, copyStatement, encodeCopy([locations]));
    return;
  }
  for (let start = 0; start < locations.length; start += rowsPerStatement) {
    await transaction.query(insert, arraysOf(locations.slice(start, start + rowsPerStatement)));
  }
}

/** COPY writes tables only; an application that is kept to its own points writes through a view. */
export async function takesCopy(db: Database): Promise<boolean> {
  const { rows } = await db.query<{ table: boolean }>(
    "SELECT relkind IN ('r', 'p') AS table FROM pg_catalog.pg_class WHERE oid = to_regclass('location_events')",
  );
  return rows[0]?.table ?? true;
}

function inTransaction(db: Database, work: (transaction: Transaction) => Promise<void>): Promise<void> {
  if (db instanceof Transaction) return work(db);
  if (db instanceof Pool) return withTransaction(db, work);
  throw new TypeError('A database is a Pool or a Transaction.');
}
