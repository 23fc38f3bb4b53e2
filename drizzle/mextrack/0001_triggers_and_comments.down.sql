-- Takes back 0001_triggers_and_comments.
COMMENT ON TABLE "vehicles" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "vehicles"."user_id" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "vehicles"."vin" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "vehicles"."device_id" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "drivers" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "drivers"."user_id" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "vehicle_assignments" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "vehicle_assignments"."ends_at" IS NULL;
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "vehicle_assignments";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "drivers";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "vehicles";
--> statement-breakpoint
DROP FUNCTION "set_updated_at"();
--> statement-breakpoint
ALTER TABLE "vehicle_assignments" DROP CONSTRAINT "vehicle_assignments_driver_no_overlap";
--> statement-breakpoint
ALTER TABLE "vehicle_assignments" DROP CONSTRAINT "vehicle_assignments_vehicle_no_overlap";
--> statement-breakpoint
DROP EXTENSION "btree_gist";
