-- Takes back 0006_triggers_and_comments.
COMMENT ON COLUMN "location_late_hours"."hour" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "location_late_hours" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "location_writers"."last_batch" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "location_writers"."role_name" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "location_writers" IS NULL;
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "location_late_hours";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "location_writers";
--> statement-breakpoint
DROP FUNCTION "set_updated_at"();
