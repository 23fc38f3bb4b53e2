// Schema of mextrack_db: fleet metadata. Locations are in atriz_tracking, joined by device_id.
import { relations, sql } from 'drizzle-orm';
import {
  boolean,
  check,
  date,
  index,
  pgTable,
  smallint,
  text,
  uniqueIndex,
  uuid,
  varchar,
} from 'drizzle-orm/pg-core';
import { coreUserId, primaryId, timestamps, timestamptz } from './columns.ts';
import { anonymiseRows, deleteRows, type ErasureRule, erasedUserId, keep } from './erasure.ts';

export const vehicles = pgTable(
  'vehicles',
  {
    id: primaryId(),
    userId: coreUserId().notNull(),
    vehicleName: varchar('vehicle_name', { length: 255 }).notNull(),
    licensePlate: varchar('license_plate', { length: 20 }).unique('vehicles_license_plate_key'),
    vin: varchar('vin', { length: 17 }).unique('vehicles_vin_key'),
    deviceId: uuid('device_id').unique('vehicles_device_id_key'),
    make: varchar('make', { length: 100 }),
    model: varchar('model', { length: 100 }),
    modelYear: smallint('model_year'),
    isActive: boolean('is_active').notNull().default(true),
    ...timestamps(),
  },
  (table) => [
    // Serves queries for the vehicles of an owner: WHERE user_id = $1.
    index('idx_vehicles_user').on(table.userId),
    // Vehicle identification numbers are 17 characters without I, O and Q (ISO 3779).
    check('check_vin', sql`${table.vin} ~ '^[A-HJ-NPR-Z0-9]{17}$'`),
    check('check_model_year', sql`${table.modelYear} BETWEEN 1886 AND 2200`),
  ],
);
export type Vehicle = typeof vehicles.$inferSelect;
export type NewVehicle = typeof vehicles.$inferInsert;

export const drivers = pgTable('drivers', {
  id: primaryId(),
  userId: coreUserId().notNull().unique('drivers_user_id_key'),
  fullName: varchar('full_name', { length: 255 }).notNull(),
  phone: varchar('phone', { length: 50 }),
  licenseNumber: varchar('license_number', { length: 50 }).notNull().unique('drivers_license_number_key'),
  licenseExpiresOn: date('license_expires_on'),
  isActive: boolean('is_active').notNull().default(true),
  ...timestamps(),
});
export type Driver = typeof drivers.$inferSelect;
export type NewDriver = typeof drivers.$inferInsert;

// Two exclusion constraints prevent overlapping assignments of a vehicle or a driver. They are handwritten in
// the migrations, because Drizzle has no EXCLUDE.
export const vehicleAssignments = pgTable(
  'vehicle_assignments',
  {
    id: primaryId(),
    vehicleId: uuid('vehicle_id')
      .notNull()
      .references(() => vehicles.id, { onDelete: 'cascade' }),
    driverId: uuid('driver_id')
      .notNull()
      .references(() => drivers.id, { onDelete: 'cascade' }),
    startsAt: timestamptz('starts_at').notNull().defaultNow(),
    endsAt: timestamptz('ends_at'),
    notes: text('notes'),
    ...timestamps(),
  },
  (table) => [
    // Serve queries for the current driver of a vehicle and the current vehicle of a driver: … AND ends_at IS NULL.
    uniqueIndex('idx_assignments_open_vehicle').on(table.vehicleId).where(sql`${table.endsAt} IS NULL`),
    uniqueIndex('idx_assignments_open_driver').on(table.driverId).where(sql`${table.endsAt} IS NULL`),
    // Serve queries for the history of a vehicle or driver, and the cascades.
    index('idx_assignments_vehicle').on(table.vehicleId, table.startsAt.desc().nullsFirst()),
    index('idx_assignments_driver').on(table.driverId, table.startsAt.desc().nullsFirst()),
    check('check_assignment_period', sql`${table.endsAt} > ${table.startsAt}`),
  ],
);
export type VehicleAssignment = typeof vehicleAssignments.$inferSelect;
export type NewVehicleAssignment = typeof vehicleAssignments.$inferInsert;

export const vehiclesRelations = relations(vehicles, ({ many }) => ({
  assignments: many(vehicleAssignments),
}));

export const driversRelations = relations(drivers, ({ many }) => ({
  assignments: many(vehicleAssignments),
}));

export const vehicleAssignmentsRelations = relations(vehicleAssignments, ({ one }) => ({
  vehicle: one(vehicles, { fields: [vehicleAssignments.vehicleId], references: [vehicles.id] }),
  driver: one(drivers, { fields: [vehicleAssignments.driverId], references: [drivers.id] }),
}));

export const erasure: readonly ErasureRule[] = [
  // Deletes the assignments of an erased driver. Assignments of an erased owner's vehicles stay, because they are data
  // of the drivers.
  deleteRows(vehicleAssignments, vehicleAssignments.driverId, {
    through: { key: drivers.id, person: drivers.userId },
  }),
  deleteRows(drivers, drivers.userId),
  anonymiseRows(vehicles, vehicles.userId, {
    because: 'the working hours of its other drivers hang on a vehicle',
    columns: {
      id: keep,
      userId: erasedUserId,
      vehicleName: 'Erased vehicle',
      licensePlate: null,
      vin: null,
      deviceId: null,
      make: keep,
      model: keep,
      modelYear: keep,
      isActive: false,
      createdAt: keep,
      updatedAt: keep,
    },
  }),
];
