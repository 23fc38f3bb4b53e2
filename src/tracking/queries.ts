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

const eventNumbers = ['latitude', 'longitude', 'accuracy', 'altitude', 'speed', 'heading'] as const;
const hourlyNumbers = ['pointCount', 'avgLatitude', 'avgLongitude', 'avgSpeed', 'maxSpeed'] as const;

export function recentLocationsQuery(
  deviceId: string,
  { hours = 24, limit = 10_000 }: RecentLocationsOptions = {},
): Query {
  requirePositive('hours', hours);
  requirePositive('limit', limit);
  return {
    text: `SELECT time, device_id AS "deviceId", user_id AS "userId", app_source AS "appSource",
        latitude, longitude, accuracy, altitude, speed, heading, metadata
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
  return readNumbers((await db.query<LocationEvent>(text, parameters)).rows, eventNumbers);
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
        point_count AS "pointCount", avg_latitude AS "avgLatitude", avg_longitude AS "avgLongitude",
        avg_speed AS "avgSpeed", max_speed AS "maxSpeed", first_event AS "firstEvent", last_event AS "lastEvent"
      FROM location_hourly
      WHERE device_id = $1::uuid AND hour > now() - $2::float8 * interval '1 day'
      ORDER BY hour DESC`,
    [deviceId, days],
  );
  return readNumbers(rows, hourlyNumbers);
}

/**
 * DECIMAL and bigint arrive as text, so that nothing is lost on the way; a double holds these columns.
 * Cheaper here than casting on the server, which takes as long again as the query.
 */
function readNumbers<Row extends object>(rows: Row[], names: readonly (keyof Row)[]): Row[] {
  for (const row of rows) {
    for (const name of names) {
      const value = row[name];
      if (value !== null) row[name] = Number(value) as Row[keyof Row];
    }
  }
  return rows;
}

function requirePositive(name: string, value: number): void {
  if (!Number.isFinite(value) || value <= 0) {
    throw new ValidationError(`${name} is ${value}: use a number above 0.`);
  }
}
