// Schema of atriz_tracking on TimescaleDB: raw locations for 30 days, hourly aggregates for a year.
import { sql } from 'drizzle-orm';
import {
  bigint,
  check,
  index,
  jsonb,
  numeric,
  pgPolicy,
  pgTable,
  pgView,
  uuid,
  varchar,
} from 'drizzle-orm/pg-core';
import { coreUserId, primaryId, timestamps, timestamptz } from './columns.ts';
import { deleteRows, type ErasureRule, keepRows } from './erasure.ts';

/** A DECIMAL of at most 15 significant digits, which a double represents without loss. */
const decimal = (name: string, precision: number, scale: number) =>
  numeric(name, { precision, scale, mode: 'number' });

/**
 * The policies of TimescaleDB. Handwritten migrations create and change them; `db:check` compares a database
 * with this declaration.
 */
export const trackingPolicies = {
  location_events: {
    chunkInterval: '1 day',
    compression: {
      after: '7 days',
      segmentBy: ['device_id', 'user_id', 'app_source'],
      orderBy: ['time DESC'],
    },
    /** Raw locations older than this are dropped. */
    retention: '30 days',
  },
  location_hourly: {
    refresh: { startOffset: '7 days', endOffset: '1 hour', every: '30 minutes' },
    /**
     * For locations that arrive late: refreshes changed hours that are too old for `refresh`. Excludes hours whose raw
     * locations are dropped within two days, because a refresh without raw locations would delete the hours.
     */
    lateRefresh: { startOffset: '28 days', endOffset: '7 days', every: '1 hour' },
    retention: '1 year',
    /** The newest hours are computed from raw locations until a refresh covers them. */
    materializedOnly: false,
  },
} as const;

/**
 * The applications that record locations. Each has an index on its own locations and a schema with its own name. In
 * this schema, the views location_events and location_hourly show only the application's locations, and location_events
 * accepts only these (migration 0008_application_views).
 */
export const locationSources = ['mextrack', 'pshop'] as const;
export type AppSource = (typeof locationSources)[number];

// The hypertable, compression and retention are in the handwritten migrations. There is no primary key,
// because a unique index of a hypertable must contain time, and a device may report the same time twice.
export const locationEvents = pgTable(
  'location_events',
  {
    time: timestamptz('time').notNull(),
    deviceId: uuid('device_id').notNull(),
    userId: coreUserId().notNull(),
    appSource: varchar('app_source', { length: 50 }).notNull(),
    latitude: decimal('latitude', 10, 8).notNull(),
    longitude: decimal('longitude', 11, 8).notNull(),
    accuracy: decimal('accuracy', 6, 2),
    altitude: decimal('altitude', 8, 2),
    speed: decimal('speed', 6, 2),
    heading: decimal('heading', 5, 2),
    metadata: jsonb('metadata').$type<Record<string, unknown>>(),
  },
  (table) => [
    // TimescaleDB creates this index with the hypertable. Serves queries by time only, such as the refresh.
    index('location_events_time_idx').on(table.time.desc().nullsFirst()),
    // Serves getRecentLocations: WHERE device_id = $1 AND time > $2 ORDER BY time DESC.
    // nullsFirst, because ORDER BY … DESC means NULLS FIRST and can use only an index in the same order.
    index('idx_location_device').on(table.deviceId, table.time.desc().nullsFirst()),
    // Serves queries for the locations of a user: WHERE user_id = $1 ORDER BY time DESC.
    index('idx_location_user').on(table.userId, table.time.desc().nullsFirst()),
    // Serves queries for the locations of an application: WHERE app_source = $1 ORDER BY time DESC.
    index('idx_location_app').on(table.appSource, table.time.desc().nullsFirst()),
    // Serve the applications' views: WHERE device_id = $1 AND time > $2. Also serve getLatestLocations, which goes from
    // device to device. With idx_location_device, it would also read the points of other applications.
    ...locationSources.map((source) =>
      index(`idx_location_${source}`)
        .on(table.deviceId, table.time.desc().nullsFirst())
        .where(sql`${table.appSource} = ${sql.raw(`'${source}'`)}`),
    ),
    check('check_latitude', sql`${table.latitude} BETWEEN -90 AND 90`),
    check('check_longitude', sql`${table.longitude} BETWEEN -180 AND 180`),
    check('check_heading', sql`${table.heading} BETWEEN 0 AND 360`),
    // NaN is greater than every number in PostgreSQL, so a lower bound alone would accept it.
    check('check_accuracy', sql`${table.accuracy} >= 0 AND ${table.accuracy} < 'NaN'`),
    check('check_altitude', sql`${table.altitude} < 'NaN'`),
    check('check_speed', sql`${table.speed} >= 0 AND ${table.speed} < 'NaN'`),
  ],
);
export type LocationEvent = typeof locationEvents.$inferSelect;
export type NewLocationEvent = typeof locationEvents.$inferInsert;

// A continuous aggregate is a view in PostgreSQL's catalog. A handwritten migration creates this one, and existing()
// tells drizzle-kit not to generate it.
export const locationHourly = pgView('location_hourly', {
  hour: timestamptz('hour').notNull(),
  deviceId: uuid('device_id').notNull(),
  userId: coreUserId().notNull(),
  appSource: varchar('app_source', { length: 50 }).notNull(),
  pointCount: bigint('point_count', { mode: 'number' }).notNull(),
  avgLatitude: numeric('avg_latitude', { mode: 'number' }).notNull(),
  avgLongitude: numeric('avg_longitude', { mode: 'number' }).notNull(),
  avgSpeed: numeric('avg_speed', { mode: 'number' }),
  maxSpeed: numeric('max_speed', { mode: 'number' }),
  firstEvent: timestamptz('first_event').notNull(),
  lastEvent: timestamptz('last_event').notNull(),
}).existing();
export type LocationHourly = typeof locationHourly.$inferSelect;

// One row for each connection of a running location writer. A batch and its number are written in one
// transaction, so that the writer can find out whether a batch without a response was stored.
export const locationWriters = pgTable(
  'location_writers',
  {
    id: primaryId(),
    /** PostgreSQL role of the writer. Row security hides the row from other roles, except the table's owner. */
    roleName: varchar('role_name', { length: 63 }).notNull().default(sql`CURRENT_USER`),
    /** Number of the last batch that was committed. */
    lastBatch: bigint('last_batch', { mode: 'number' }).notNull().default(0),
    ...timestamps(),
  },
  (table) => [
    check('check_last_batch', sql`${table.lastBatch} >= 0`),
    // TimescaleDB does not allow row security on compressed hypertables, so location_events has views instead.
    pgPolicy('own_rows', {
      using: sql`${table.roleName} = CURRENT_USER`,
      withCheck: sql`${table.roleName} = CURRENT_USER`,
    }),
  ],
);
export type LocationWriterRow = typeof locationWriters.$inferSelect;

export const erasure: readonly ErasureRule[] = [
  // Raw locations come first: while they exist, a refresh of the aggregate would restore the deleted hours.
  deleteRows(locationEvents, locationEvents.userId),
  deleteRows(locationHourly, locationHourly.userId),
  keepRows(locationWriters, 'numbers of batches, no person'),
];
