-- updated_at of the tables beside the hypertable is kept by triggers; comments say what the names do not.
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
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "location_writers"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "location_late_hours"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "location_writers" IS 'Connections of location writers. Tells a batch whose answer was lost from one that was never written.';
--> statement-breakpoint
COMMENT ON COLUMN "location_writers"."role_name" IS 'Role that writes; no other may move its number.';
--> statement-breakpoint
COMMENT ON COLUMN "location_writers"."last_batch" IS 'Number of the last batch that was committed, from 1.';
--> statement-breakpoint
COMMENT ON TABLE "location_late_hours" IS 'Hours that got points after the refresh policy had left them behind, until location_hourly has them.';
--> statement-breakpoint
COMMENT ON COLUMN "location_late_hours"."hour" IS 'Begin of the hour, UTC.';
