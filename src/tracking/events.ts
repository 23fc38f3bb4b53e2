// Writes GPS points: one statement and twelve parameters at most, however many rows.
import type { NewLocationEvent } from '../../schema/tracking.ts';
import type { Database } from '../pool.ts';

/** A GPS point. Degrees, metres, km/h, degrees clockwise from north. */
export type LocationInput = NewLocationEvent;

/** Enough to amortise the round trip, small enough to keep one statement's memory in the low megabytes. */
const rowsPerStatement = 5_000;

const columns: readonly (readonly [name: string, type: string, read: (event: LocationInput) => unknown])[] = [
  ['time', 'timestamptz', (event) => event.time],
  ['device_id', 'uuid', (event) => event.deviceId],
  ['user_id', 'uuid', (event) => event.userId],
  ['app_source', 'text', (event) => event.appSource],
  ['latitude', 'numeric', (event) => event.latitude],
  ['longitude', 'numeric', (event) => event.longitude],
  ['accuracy', 'numeric', (event) => event.accuracy],
  ['altitude', 'numeric', (event) => event.altitude],
  ['speed', 'numeric', (event) => event.speed],
  ['heading', 'numeric', (event) => event.heading],
  ['metadata', 'jsonb', (event) => event.metadata],
];

const names = columns.map(([name]) => name).join(', ');
const insert = `INSERT INTO location_events (${names})
  SELECT ${names} FROM unnest(${columns.map(([, type], index) => `$${index + 1}::${type}[]`).join(', ')}) AS t (${names})`;

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
      columns.map(([, , read]) => batch.map(read)),
    );
    written += rowCount;
  }
  return written;
}
