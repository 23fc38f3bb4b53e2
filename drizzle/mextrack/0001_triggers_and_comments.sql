-- Assignments never overlap, and updated_at is kept by triggers; comments say what the names do not.
CREATE EXTENSION IF NOT EXISTS "btree_gist";
--> statement-breakpoint
-- EXCLUDE knows no NOT VALID, and the table is new.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE "vehicle_assignments" ADD CONSTRAINT "vehicle_assignments_vehicle_no_overlap"
EXCLUDE USING gist ("vehicle_id" WITH =, tstzrange("starts_at", "ends_at") WITH &&);
--> statement-breakpoint
-- EXCLUDE knows no NOT VALID, and the table is new.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE "vehicle_assignments" ADD CONSTRAINT "vehicle_assignments_driver_no_overlap"
EXCLUDE USING gist ("driver_id" WITH =, tstzrange("starts_at", "ends_at") WITH &&);
--> statement-breakpoint
CREATE FUNCTION "set_updated_at"() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
  NEW."updated_at" := now();
  RETURN NEW;
END
$$;
--> statement-breakpoint
COMMENT ON FUNCTION "set_updated_at"() IS 'Keeps updated_at: the time of the transaction that last changed the row.';
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "vehicles"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "drivers"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "vehicle_assignments"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "vehicles" IS 'Vehicles of the fleets. Their GPS points stand in atriz_tracking.';
--> statement-breakpoint
COMMENT ON COLUMN "vehicles"."user_id" IS 'Owner of the vehicle: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON COLUMN "vehicles"."vin" IS 'Vehicle identification number (ISO 3779).';
--> statement-breakpoint
COMMENT ON COLUMN "vehicles"."device_id" IS 'GPS device in the vehicle: location_events.device_id in atriz_tracking.';
--> statement-breakpoint
COMMENT ON TABLE "drivers" IS 'People who drive, one row per user.';
--> statement-breakpoint
COMMENT ON COLUMN "drivers"."user_id" IS 'Person of this row: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON TABLE "vehicle_assignments" IS 'Who drives which vehicle, and when. Periods never overlap.';
--> statement-breakpoint
COMMENT ON COLUMN "vehicle_assignments"."ends_at" IS 'Empty while the assignment is open; the period excludes this instant.';
