-- Chunks of a day, compressed after 7 days, dropped after 30.
SELECT create_hypertable('location_events', 'time', chunk_time_interval => INTERVAL '1 day');
--> statement-breakpoint
ALTER TABLE "location_events" SET (
  timescaledb.compress,
  timescaledb.compress_segmentby = 'device_id, user_id, app_source',
  timescaledb.compress_orderby = 'time DESC'
);
--> statement-breakpoint
SELECT add_compression_policy('location_events', INTERVAL '7 days');
--> statement-breakpoint
SELECT add_retention_policy('location_events', INTERVAL '30 days');
--> statement-breakpoint
COMMENT ON TABLE "location_events" IS 'Raw GPS points. Dropped after 30 days; location_hourly keeps their summary for a year.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."user_id" IS 'Person of this row: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."app_source" IS 'Application that recorded the point: mextrack or pshop.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."accuracy" IS 'Metres.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."altitude" IS 'Metres above sea level.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."speed" IS 'Kilometres per hour.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."heading" IS 'Degrees clockwise from north, 0 to 360.';
--> statement-breakpoint
COMMENT ON COLUMN "location_events"."metadata" IS 'Additional telemetry.';
