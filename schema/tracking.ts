// atriz_tracking: GPS telemetry on TimescaleDB. Raw points for 30 days, hourly aggregates for a year.
import { sql } from 'drizzle-orm';
import { bigint, check, index, jsonb, numeric, pgTable, pgView, uuid, varchar } from 'drizzle-orm/pg-core';
import { coreUserId, timestamptz } from './columns.ts';
import { deleteRows, type ErasureRule } from './erasure.ts';

/** A DECIMAL that a double holds without loss: at most 15 significant digits. */
const decimal = (name: string, precision: number, scale: number) =>
  numeric(name, { precision, scale, mode: 'number' });

/** What the handwritten migrations set up; they remain the way to change it. */
export const trackingPolicies = {
  /** Raw points older than this are dropped. */
  rawRetentionDays: 30,
  /** The newest hours are computed from raw points until the aggregate covers them. */
  refreshEndOffsetHours: 1,
} as const;

// The hypertable, compression and retention stand in the handwritten migrations.
// No primary key: a unique index on a hypertable must contain time, and a device may report twice.
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
    // Serves getRecentLocations: WHERE device_id = $1 AND time > $2 ORDER BY time DESC.
    // nullsFirst: plain ORDER BY … DESC means NULLS FIRST, and only that order can use this index.
    index('idx_location_device').on(table.deviceId, table.time.desc().nullsFirst()),
    // Serves a person's own trail: WHERE user_id = $1 ORDER BY time DESC.
    index('idx_location_user').on(table.userId, table.time.desc().nullsFirst()),
    // Serves an application's live map: WHERE app_source = $1 ORDER BY time DESC.
    index('idx_location_app').on(table.appSource, table.time.desc().nullsFirst()),
    check('check_latitude', sql`${table.latitude} BETWEEN -90 AND 90`),
    check('check_longitude', sql`${table.longitude} BETWEEN -180 AND 180`),
    check('check_heading', sql`${table.heading} BETWEEN 0 AND 360`),
    // NaN sorts above every number, so a lower bound alone would let it in.
    check('check_accuracy', sql`${table.accuracy} >= 0 AND ${table.accuracy} < 'NaN'`),
    check('check_altitude', sql`${table.altitude} < 'NaN'`),
    check('check_speed', sql`${table.speed} >= 0 AND ${table.speed} < 'NaN'`),
  ],
);
export type LocationEvent = typeof locationEvents.$inferSelect;
export type NewLocationEvent = typeof locationEvents.$inferInsert;

// A continuous aggregate is a view in PostgreSQL's catalog. existing(): a handwritten migration
// creates it, and drizzle-kit generate leaves it alone.
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

export const erasure: readonly ErasureRule[] = [
  // Raw points first: a refresh of the aggregate would else bring their hours back.
  deleteRows(locationEvents, locationEvents.userId),
  deleteRows(locationHourly, locationHourly.userId),
];
