// Writes GPS points: one statement of eleven array parameters for thousands of rows.
import type { Database } from '../pool.ts';
import { type LocationInput, locationColumns } from './columns.ts';

/** Enough to amortise the round trip, small enough to keep one statement's memory in the low megabytes. */
const rowsPerStatement = 5_000;

const names = locationColumns.map(({ name }) => name).join(', ');
const arrays = locationColumns.map(({ type }, index) => `$${index + 1}::${type}[]`).join(', ');
const insert = `INSERT INTO location_events (${names}) SELECT ${names} FROM unnest(${arrays}) AS t (${names})`;

/** Writes one point. */
export async function recordLocation(db: Database, event: LocationInput): Promise<void> {
  await recordLocations(db, [event]);
}

/**
 * Writes many points. Each statement takes 5,000 of them and is atomic; inside of
 * `withTransaction` all of them are.
 * @returns how many rows were written.
 */
export async function recordLocations(db: Database, events: readonly LocationInput[]): Promise<number> {
  let written = 0;
  for (let start = 0; start < events.length; start += rowsPerStatement) {
    const batch = events.slice(start, start + rowsPerStatement);
    const { rowCount } = await db.query(
      insert,
      locationColumns.map(({ property }) => batch.map((event) => event[property])),
    );
    written += rowCount;
  }
  return written;
}
