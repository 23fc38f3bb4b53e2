// Reads the facts about tracking: chunks, hours, devices, positions and a track. The server computes the sums.
import { locationSources } from '../../schema/tracking.ts';
import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { changedRanges, chunks, readTimescale } from '../../src/timescale/catalog.ts';
import { getLatestLocations, getTrack, type TimeRange } from '../../src/tracking/index.ts';
import { attempt, type Fact } from './fact.ts';

/** Days in the chart of points per hour. */
export const chartDays = 14;
/** A device is known if it sent a location in the last `knownDays` days. */
export const knownDays = 30;
/** Hours without a location after which a device is silent. */
export const silentHours = 24;
/** Maximum numbers of items that are listed or drawn. */
const mostSilent = 50;
const mostPositions = 500;
const mostTrackPoints = 1500;
const mostChunks = 62;

export interface TrackRequest extends TimeRange {
  readonly deviceId: string;
}

export interface ChunkFacts {
  readonly from: string;
  readonly to: string;
  readonly isCompressed: boolean;
  readonly bytes: number;
  /** Size before compression; null for a chunk that is not compressed. */
  readonly rawBytes: number | null;
}

export interface HourFacts {
  readonly hour: string;
  readonly points: number;
  readonly devices: number;
}

interface DeviceFacts {
  readonly deviceId: string;
  /** Name of the device's vehicle in mextrack_db, else the start of the device's id. */
  readonly label: string;
  readonly lastSeen: string;
}

export interface Position {
  readonly deviceId: string;
  readonly label: string;
  readonly time: string;
  readonly latitude: number;
  readonly longitude: number;
  /** km/h */
  readonly speed: number | null;
}

export interface TrackingFacts {
  readonly chunks: Fact<readonly ChunkFacts[]>;
  readonly hours: Fact<readonly HourFacts[]>;
  readonly devices: Fact<{
    readonly points: number;
    readonly known: number;
    readonly silent: number;
    /** The devices that became silent last, at most 50. */
    readonly silentDevices: readonly DeviceFacts[];
  }>;
  readonly late: Fact<{ readonly hours: number; readonly from: string | null; readonly to: string | null }>;
  readonly positions: Fact<{ readonly total: number; readonly shown: readonly Position[] }>;
  readonly track: Fact<Track> | null;
}

export interface Track {
  readonly deviceId: string;
  readonly label: string;
  readonly from: string;
  readonly to: string;
  readonly points: readonly Position[];
}

export async function readTracking(
  db: Pool,
  names: ReadonlyMap<string, string>,
  request: TrackRequest | undefined,
): Promise<TrackingFacts> {
  // Not in parallel: the embedded server runs one transaction at a time, and the doctor uses it at the same time.
  return {
    chunks: await attempt(() => readChunkFacts(db)),
    hours: await attempt(() => readHours(db)),
    devices: await attempt(() => readDevices(db, names)),
    late: await attempt(() => readLateHours(db)),
    positions: await attempt(() => readPositions(db, names)),
    track: request ? await attempt(() => readTrack(db, names, request)) : null,
  };
}

const labelOf = (names: ReadonlyMap<string, string>, deviceId: string): string =>
  names.get(deviceId) ?? `device ${deviceId.slice(0, 8)}`;

const iso = (column: string): string => `to_char(${column}, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`;

function readChunkFacts(db: Pool): Promise<ChunkFacts[]> {
  const read = async (transaction: Pick<Pool, 'query'>) => {
    const timescale = await readTimescale(transaction);
    if (!timescale) return [];
    const { rows } = await transaction.query<ChunkFacts>(
      `SELECT ${iso('c.range_start')} AS "from", ${iso('c.range_end')} AS "to", c.is_compressed AS "isCompressed",
         d.total_bytes::float8 AS bytes, s.before_compression_total_bytes::float8 AS "rawBytes"
       FROM ${chunks} AS c
       JOIN ${timescale.schema}.chunks_detailed_size('public.location_events'::regclass) AS d USING (chunk_name)
       LEFT JOIN ${timescale.schema}.chunk_compression_stats('public.location_events'::regclass) AS s USING (chunk_name)
       WHERE c.storage_schema = 'public' AND c.storage_name = 'location_events'
       ORDER BY c.range_start DESC LIMIT $1`,
      [mostChunks],
    );
    return rows.reverse();
  };
  return withCatalogPath(db, read, { readOnly: true });
}

async function readHours(db: Pool) {
  const { rows } = await db.query<HourFacts>(
    `SELECT ${iso('hour')} AS hour, sum(point_count)::float8 AS points, count(DISTINCT device_id)::int AS devices
     FROM location_hourly WHERE hour > now() - make_interval(days => $1)
     GROUP BY location_hourly.hour ORDER BY location_hourly.hour`,
    [chartDays],
  );
  return rows;
}

async function readDevices(db: Pool, names: ReadonlyMap<string, string>) {
  const { rows } = await db.query<{
    points: number;
    known: number;
    silent: number;
    silentDevices: { deviceId: string; lastSeen: string }[];
  }>(
    `WITH known AS (
       SELECT device_id, max(last_event) AS last_seen, sum(point_count) AS points,
         max(last_event) < now() - make_interval(hours => $2) AS is_silent
       FROM location_hourly WHERE hour > now() - make_interval(days => $1) GROUP BY device_id
     ), silent AS (
       SELECT device_id, last_seen FROM known WHERE is_silent ORDER BY last_seen DESC, device_id LIMIT $3
     )
     SELECT coalesce(sum(points), 0)::float8 AS points, count(*)::int AS known,
       (count(*) FILTER (WHERE is_silent))::int AS silent,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('deviceId', device_id, 'lastSeen', ${iso('last_seen')})
          ORDER BY last_seen DESC), '[]') FROM silent) AS "silentDevices"
     FROM known`,
    [knownDays, silentHours, mostSilent],
  );
  const [found] = rows;
  if (!found) throw new Error('An aggregate without GROUP BY returned no row.');
  const silentDevices = found.silentDevices.map(({ deviceId, lastSeen }) => {
    return { deviceId, label: labelOf(names, deviceId), lastSeen };
  });
  return { ...found, silentDevices };
}

function readLateHours(db: Pool) {
  return withCatalogPath(
    db,
    async (transaction) => {
      if (!(await readTimescale(transaction))) return { hours: 0, from: null, to: null };
      // Older hours are never refreshed: their raw locations are dropped.
      const { rows } = await transaction.query<{ hours: number; from: string | null; to: string | null }>(
        `SELECT count(DISTINCT late.hour)::int AS hours, ${iso('min(late.hour)')} AS "from", ${iso('max(late.hour)')} AS "to"
         FROM ${changedRanges} AS r, generate_series(
           date_trunc('hour', greatest(r."from", now() - make_interval(days => $1)), 'UTC'), least(r."to", now()),
           interval '1 hour') AS late (hour)
         WHERE r.schema = 'public' AND r.relation = 'location_hourly'`,
        [knownDays],
      );
      return rows[0] ?? { hours: 0, from: null, to: null };
    },
    { readOnly: true },
  );
}

async function readPositions(db: Pool, names: ReadonlyMap<string, string>) {
  const found = new Map<string, Position>();
  for (const appSource of locationSources.filter((source) => !db.foreignSources.includes(source))) {
    for (const point of await getLatestLocations(db, { appSource, hours: silentHours })) {
      found.set(point.deviceId, positionOf(point, names));
    }
  }
  const positions = [...found.values()].sort((one, other) => other.time.localeCompare(one.time));
  return { total: positions.length, shown: positions.slice(0, mostPositions) };
}

async function readTrack(
  db: Pool,
  names: ReadonlyMap<string, string>,
  { deviceId, from, to }: TrackRequest,
): Promise<Track> {
  const points = await getTrack(db, deviceId, { from, to, maxPoints: mostTrackPoints });
  return {
    deviceId,
    label: labelOf(names, deviceId),
    from: from.toISOString(),
    to: to.toISOString(),
    points: points.map((point) => positionOf(point, names)),
  };
}

type Located = Awaited<ReturnType<typeof getTrack>>[number];

const positionOf = (
  { deviceId, time, latitude, longitude, speed }: Located,
  names: ReadonlyMap<string, string>,
): Position => ({
  deviceId,
  label: labelOf(names, deviceId),
  time: time.toISOString(),
  latitude,
  longitude,
  speed,
});
