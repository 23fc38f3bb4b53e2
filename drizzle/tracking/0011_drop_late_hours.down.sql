-- Takes back 0011_drop_late_hours: the table is empty again.
CREATE TABLE "location_late_hours" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"hour" timestamp with time zone NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "check_late_hour" CHECK ("location_late_hours"."hour" = date_trunc('hour', "location_late_hours"."hour", 'UTC') AND isfinite("location_late_hours"."hour"))
);
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "location_late_hours"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "location_late_hours" IS 'Hours that got points after the refresh policy had left them behind, until location_hourly has them.';
--> statement-breakpoint
COMMENT ON COLUMN "location_late_hours"."hour" IS 'Begin of the hour, UTC.';
