// Reads the history of a device: hourly statistics, and raw locations of the last day. Also reads tracks for maps.
import type { LocationEvent, LocationHourly } from '../../schema/tracking.ts';
import { ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { type LocationRow, readLocation, selectedColumns } from './packed-rows.ts';
import { isDevice, readHours, requireCount, requireDate, selectedHourColumns } from './reads.ts';

export interface TimeRange {
  /** Start of the range, inclusive. */
  from: Date;
  /** End of the range, exclusive. */
  to: Date;
}

export interface LocationHistory {
  /** Statistics of the hours before `rawSince`, oldest first. The first and the last may cover part of an hour. */
  hours: LocationHourly[];
  /** Locations from `rawSince` on, oldest first. */
  points: LocationEvent[];
  /** The time at which `hours` end and `points` begin: 24 hours ago, truncated to the start of the UTC hour. */
  rawSince: Date;
}

/**
 * Reads a device's hourly statistics of `[from, to)` before `rawSince`, and its raw locations from then on. Each
 * location counts in exactly one of the two. An hour that is only partly in the range is computed from raw locations,
 * if these still exist. Only such an hour has a correct `avgLongitude` if the device crossed the 180th meridian. Speeds
 * are in km/h.
 * @throws ValidationError for a device id that is not a uuid, an invalid date, or an empty range.
 */
export async function getLocationHistory(
  db: AnyDatabase,
  deviceId: string,
  range: TimeRange,
): Promise<LocationHistory> {
  requireUuid(deviceId, 'deviceId');
  requireRange(range);
  const { rows } = await databaseOf(db).query<{
    rawSince: Date;
    hours: HourlyJson[];
    points: LocationRow[];
  }>(historyQuery, [deviceId, range.from, range.to]);
  const [row] = rows;
  if (!row) throw new Error('An aggregate without GROUP BY returned no row.');
  return {
    rawSince: row.rawSince,
    hours: readHours(row.hours.map(withDates)),
    points: row.points.map(readLocation),
  };
}

type Times = 'hour' | 'firstEvent' | 'lastEvent';
type HourlyJson = Omit<LocationHourly, Times> & Record<Times, string>;

/** Converts the times to Date objects, because JSON has no dates. */
const withDates = (row: HourlyJson): LocationHourly => ({
  ...row,
  hour: new Date(row.hour),
  firstEvent: new Date(row.firstEvent),
  lastEvent: new Date(row.lastEvent),
});

// No device crosses half of the earth in an hour, so a span above 180° means that it crossed the 180th
// meridian. Negative longitudes are then averaged as values above 180: -179 as 181.
const averageLongitude = `CASE WHEN max(longitude) - min(longitude) <= 180 THEN avg(longitude)
    ELSE (avg(longitude + CASE WHEN longitude < 0 THEN 360 ELSE 0 END) + 180) % 360 - 180 END`;

// $1 device, $2 from, $3 to. The hourly part is [$2, edge). Its whole hours are those in [first, last).
const historyQuery = `
  WITH bounds AS (
    SELECT "rawSince", least(greatest("rawSince", $2::timestamptz), $3::timestamptz) AS edge,
      date_trunc('hour', $2::timestamptz + interval '1 hour' - interval '1 microsecond', 'UTC') AS first,
      date_trunc('hour', least($3::timestamptz, "rawSince"), 'UTC') AS last
    FROM (SELECT date_trunc('hour', now() - interval '24 hours', 'UTC') AS "rawSince") AS day
  ), whole AS (
    SELECT ${selectedHourColumns} FROM location_hourly
    WHERE device_id = $1::uuid AND hour >= (SELECT first FROM bounds) AND hour < (SELECT last FROM bounds)
  ), cut AS (
    SELECT date_trunc('hour', time, 'UTC') AS hour, device_id AS "deviceId", user_id AS "userId",
      app_source AS "appSource", count(*) AS "pointCount",
      avg(latitude) AS "avgLatitude", ${averageLongitude} AS "avgLongitude", avg(speed) AS "avgSpeed",
      max(speed) AS "maxSpeed", min(time) AS "firstEvent", max(time) AS "lastEvent"
    FROM location_events
    WHERE ${isDevice('$1::uuid')} AND time >= $2::timestamptz AND time < (SELECT edge FROM bounds)
      AND (time < (SELECT least(first, edge) FROM bounds) OR time >= (SELECT greatest(first, last) FROM bounds))
    GROUP BY 1, device_id, user_id, app_source
  ), points AS (
    SELECT time, ${selectedColumns} FROM location_events
    WHERE ${isDevice('$1::uuid')} AND time >= greatest($2::timestamptz, (SELECT "rawSince" FROM bounds)) AND time < $3::timestamptz
  )
  SELECT (SELECT "rawSince" FROM bounds) AS "rawSince",
    (SELECT coalesce(jsonb_agg(h ORDER BY hour), '[]') FROM (SELECT * FROM whole UNION ALL SELECT * FROM cut) AS h) AS hours,
    (SELECT coalesce(jsonb_agg(p ORDER BY time), '[]') FROM points AS p) AS points`;

/**
 * Reads at most `maxPoints` locations of a device in `[from, to)`, oldest first. The server selects every n-th one.
 * @throws ValidationError for a device id that is not a uuid, an invalid date, an empty range, or a
 * `maxPoints` that is not a whole number from 1.
 */
export async function getTrack(
  db: AnyDatabase,
  deviceId: string,
  { maxPoints, ...range }: TimeRange & { maxPoints: number },
): Promise<LocationEvent[]> {
  requireUuid(deviceId, 'deviceId');
  requireRange(range);
  requireCount('maxPoints', maxPoints);
  return databaseOf(db).read(
    `SELECT ${selectedColumns} FROM (
       SELECT *, row_number() OVER (ORDER BY time) - 1 AS place, count(*) OVER () AS total FROM location_events
       WHERE ${isDevice('$1::uuid')} AND time >= $2::timestamptz AND time < $3::timestamptz
     ) AS track
     WHERE place % ceil(total::float8 / $4::float8)::bigint = 0
     ORDER BY place`,
    [deviceId, range.from, range.to, maxPoints],
    readLocation,
  );
}

export function requireRange({ from, to }: TimeRange): void {
  requireDate('from', from);
  requireDate('to', to);
  if (from >= to) throw new ValidationError('"from" should lie before "to".');
}
