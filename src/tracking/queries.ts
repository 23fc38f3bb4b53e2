// Reads of the guide: recent points from raw rows, history from the hourly aggregate.
import type { LocationEvent, LocationHourly } from '../../schema/tracking.ts';
import { ValidationError } from '../errors.ts';
import type { Database } from '../pool.ts';

export interface RecentLocationsOptions {
  /** How far back, in hours. Default 24. */
  hours?: number;
  /** Most rows, newest first. Default 10,000. */
  limit?: number;
}

/** A statement with its parameters, so that a test can put EXPLAIN before it. */
interface Query {
  readonly text: string;
  readonly parameters: readonly unknown[];
}

/** `float8` reads a DECIMAL of these columns exactly as JavaScript's number does. */
const number = (column: string, name: string) => `${column}::float8 AS "${name}"`;

export function recentLocationsQuery(
  deviceId: string,
  { hours = 24, limit = 10_000 }: RecentLocationsOptions = {},
): Query {
  requirePositive('hours', hours);
  requirePositive('limit', limit);
  return {
    text: `SELECT time, device_id AS "deviceId", user_id AS "userId", app_source AS "appSource",
        ${number('latitude', 'latitude')}, ${number('longitude', 'longitude')}, ${number('accuracy', 'accuracy')},
        ${number('altitude', 'altitude')}, ${number('speed', 'speed')}, ${number('heading', 'heading')}, metadata
      FROM location_events
      WHERE device_id = $1::uuid AND time > now() - $2::float8 * interval '1 hour'
      ORDER BY time DESC
      LIMIT $3::bigint`,
    parameters: [deviceId, hours, limit],
  };
}

/**
 * The points of a device, newest first, from the raw rows. An unknown device has none.
 * @throws ValidationError when `hours` or `limit` is not positive.
 */
export async function getRecentLocations(
  db: Database,
  deviceId: string,
  options?: RecentLocationsOptions,
): Promise<LocationEvent[]> {
  const { text, parameters } = recentLocationsQuery(deviceId, options);
  return (await db.query<LocationEvent>(text, parameters)).rows;
}

/**
 * Hourly statistics of a device, newest first, from the continuous aggregate. Speeds in km/h.
 * @throws ValidationError when `days` is not positive.
 */
export async function getHourlyStats(
  db: Database,
  deviceId: string,
  { days = 7 }: { days?: number } = {},
): Promise<LocationHourly[]> {
  requirePositive('days', days);
  const { rows } = await db.query<LocationHourly>(
    `SELECT hour, device_id AS "deviceId", user_id AS "userId", app_source AS "appSource",
        point_count::float8 AS "pointCount", ${number('avg_latitude', 'avgLatitude')},
        ${number('avg_longitude', 'avgLongitude')}, ${number('avg_speed', 'avgSpeed')},
        ${number('max_speed', 'maxSpeed')}, first_event AS "firstEvent", last_event AS "lastEvent"
      FROM location_hourly
      WHERE device_id = $1::uuid AND hour > now() - $2::float8 * interval '1 day'
      ORDER BY hour DESC`,
    [deviceId, days],
  );
  return rows;
}

function requirePositive(name: string, value: number): void {
  if (!Number.isFinite(value) || value <= 0) {
    throw new ValidationError(`${name} is ${value}: use a number above 0.`);
  }
}
