// Reads recent and latest locations from raw rows, and statistics from the hourly aggregate, in one round trip each.
import type { LocationEvent, LocationHourly } from '../../schema/tracking.ts';
import { ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { readLocation, readNumber, selectedColumns } from './packed-rows.ts';
import { foreignReason } from './validate.ts';

/** A statement and its parameters, separate from their execution so that a test can prepend EXPLAIN. */
interface Query {
  readonly text: string;
  readonly parameters: readonly unknown[];
}

export const selectedHourColumns = `hour, device_id AS "deviceId", user_id AS "userId", app_source AS "appSource",
  point_count AS "pointCount", avg_latitude AS "avgLatitude", avg_longitude AS "avgLongitude",
  avg_speed AS "avgSpeed", max_speed AS "maxSpeed", first_event AS "firstEvent", last_event AS "lastEvent"`;
const hourDecimals = ['pointCount', 'avgLatitude', 'avgLongitude', 'avgSpeed', 'maxSpeed'];

/** SQL condition: `time` is in the last $2 hours. The fixed time $3 lets TimescaleDB plan without older chunks. */
const isRecent = `time > now() - $2::float8 * interval '1 hour' AND time > $3::timestamptz`;

/**
 * SQL condition: `device_id` is `id`. It repeats the equality as BETWEEN, so that the planner expects fewer rows. In a
 * fleet of a few devices, it would otherwise read the index on time, which for a silent device means all points of the
 * others: 100 to 500 ms for 10 silent devices, instead of 3.
 */
export const isDevice = (id: string) => `device_id = ${id} AND device_id BETWEEN ${id} AND ${id}`;

/** Returns a time at least `hours` hours ago, even if the clocks of client and server differ by up to a day. */
const chunksSince = (hours: number) => new Date(Math.max(0, Date.now() - (hours + 24) * 3_600_000));

export interface RecentLocationsOptions {
  /** Only locations of the last `hours` hours are read. Default 24. */
  hours?: number;
  /** Rows per page. Default 10,000. A page may have more, because it never ends between locations of the same time. */
  limit?: number;
  /** For the next page: the `time` of the last location of the previous page. */
  before?: Date;
}

export function recentLocationsQuery(
  deviceId: string,
  { hours = 24, limit = 10_000, before }: RecentLocationsOptions = {},
): Query {
  requireUuid(deviceId, 'deviceId');
  requirePositive('hours', hours);
  requireCount('limit', limit);
  if (before) requireDate('before', before);
  return {
    // Without WITH TIES, the next page would miss locations with the same time as the last location of this page.
    text: `SELECT ${selectedColumns}
      FROM location_events
      WHERE ${isDevice('$1::uuid')} AND ${isRecent}
        ${before ? 'AND time < $5::timestamptz' : ''}
      ORDER BY time DESC
      FETCH FIRST ($4::bigint) ROWS WITH TIES`,
    parameters: [deviceId, hours, chunksSince(hours), limit, ...(before ? [before] : [])],
  };
}

/**
 * Reads a page of the raw locations of a device, newest first. The page of an unknown device is empty.
 * @throws ValidationError for a device id that is not a uuid, an `hours` that is not positive, a `limit` that
 * is not a whole number from 1, or an invalid `before`.
 */
export async function getRecentLocations(
  db: AnyDatabase,
  deviceId: string,
  options?: RecentLocationsOptions,
): Promise<LocationEvent[]> {
  const { text, parameters } = recentLocationsQuery(deviceId, options);
  return databaseOf(db).read(text, parameters, readLocation);
}

/**
 * Reads the hourly statistics of a device for the last `days` days (default 7) from the continuous aggregate, newest
 * first. Speeds are in km/h.
 * @throws ValidationError for a device id that is not a uuid, or `days` that is not positive.
 */
export async function getHourlyStats(
  db: AnyDatabase,
  deviceId: string,
  { days = 7 }: { days?: number } = {},
): Promise<LocationHourly[]> {
  requireUuid(deviceId, 'deviceId');
  requirePositive('days', days);
  const { rows } = await databaseOf(db).query<LocationHourly>(
    `SELECT ${selectedHourColumns} FROM location_hourly
      WHERE device_id = $1::uuid AND hour > now() - $2::float8 * interval '1 day' AND hour > $3::timestamptz
      ORDER BY hour DESC`,
    [deviceId, days, chunksSince(days * 24)],
  );
  return readHours(rows);
}

export type LatestLocationsOptions = (
  | {
      /** Selects the devices whose newest location was recorded by this application. */
      appSource: string;
    }
  | { deviceIds: readonly string[] }
) & {
  /** Devices without a location in the last `hours` hours are left out. Default 24. */
  hours?: number;
};

/**
 * Reads the newest location of each selected device, for a live map. The result is ordered by device id. The duration
 * grows with the number of devices, not with the number of locations.
 * @throws ValidationError for a device id that is not a uuid, `hours` that is not positive, or an `appSource` whose
 * locations are in another database.
 */
export async function getLatestLocations(
  db: AnyDatabase,
  options: LatestLocationsOptions,
): Promise<LocationEvent[]> {
  const { hours = 24 } = options;
  requirePositive('hours', hours);
  if ('appSource' in options && databaseOf(db).foreignSources.includes(options.appSource)) {
    throw new ValidationError(`${foreignReason(options.appSource)}.`);
  }
  const { text, parameters } =
    'deviceIds' in options
      ? latestOfDevicesQuery(options.deviceIds, hours)
      : latestOfApplicationQuery(options.appSource, hours);
  return databaseOf(db).read(text, parameters, readLocation);
}

export function latestOfDevicesQuery(deviceIds: readonly string[], hours: number): Query {
  for (const deviceId of deviceIds) requireUuid(deviceId, 'deviceIds');
  return {
    text: `SELECT latest.* FROM (SELECT DISTINCT unnest($1::uuid[]) AS device_id) AS wanted
     CROSS JOIN LATERAL (
       SELECT ${selectedColumns} FROM location_events
       WHERE ${isDevice('wanted.device_id')} AND ${isRecent}
       ORDER BY time DESC LIMIT 1
     ) AS latest
     ORDER BY wanted.device_id`,
    parameters: [deviceIds, hours, chunksSince(hours)],
  };
}

// Goes from the newest location of one device to that of the next device, with one index lookup for each. TimescaleDB's
// SkipScan would do this too, but it does not work through the applications' views, which are security barriers. Only
// the outer query filters by application, so that no step reads all rows of another application's device.
export function latestOfApplicationQuery(appSource: string, hours: number): Query {
  return {
    text: `WITH RECURSIVE latest AS (
       (SELECT * FROM location_events WHERE ${isRecent} ORDER BY device_id, time DESC LIMIT 1)
       UNION ALL
       SELECT next.* FROM latest CROSS JOIN LATERAL (
         SELECT * FROM location_events
         WHERE device_id > latest.device_id AND ${isRecent}
         ORDER BY device_id, time DESC LIMIT 1
       ) AS next
     )
     SELECT ${selectedColumns} FROM latest WHERE app_source = $1 ORDER BY device_id`,
    parameters: [appSource, hours, chunksSince(hours)],
  };
}

/**
 * Converts NUMERIC and bigint values, which postgres.js returns as text, to numbers. This is cheaper than a
 * cast on the server. Averages are rounded to doubles.
 */
export function readHours(rows: LocationHourly[]): LocationHourly[] {
  for (const row of rows as unknown as Record<string, unknown>[]) {
    for (const property of hourDecimals) {
      const value = row[property];
      row[property] = typeof value === 'string' ? readNumber(value, 0, value.length) : value;
    }
  }
  return rows;
}

export function requireDate(name: string, value: Date): void {
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    throw new ValidationError(`${name} is "${value}": use a valid Date.`);
  }
}

export function requireCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new ValidationError(`${name} is ${value}: use a whole number from 1.`);
  }
}

function requirePositive(name: string, value: number): void {
  if (!Number.isFinite(value) || value <= 0) {
    throw new ValidationError(`${name} is ${value}: use a number above 0.`);
  }
}
