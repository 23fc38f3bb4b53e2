-- Hourly statistics, kept for a year after their raw points are gone.
CREATE MATERIALIZED VIEW "location_hourly"
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
  time_bucket(INTERVAL '1 hour', "time") AS "hour",
  "device_id",
  "user_id",
  "app_source",
  COUNT(*) AS "point_count",
  AVG("latitude") AS "avg_latitude",
  AVG("longitude") AS "avg_longitude",
  AVG("speed") AS "avg_speed",
  MAX("speed") AS "max_speed",
  MIN("time") AS "first_event",
  MAX("time") AS "last_event"
FROM "location_events"
GROUP BY "hour", "device_id", "user_id", "app_source"
WITH NO DATA;
--> statement-breakpoint
-- The window must end well before the raw retention of 30 days: refreshing a range whose raw
-- points were dropped would delete its summary.
SELECT add_continuous_aggregate_policy('location_hourly',
  start_offset => INTERVAL '7 days',
  end_offset => INTERVAL '1 hour',
  schedule_interval => INTERVAL '30 minutes');
--> statement-breakpoint
SELECT add_retention_policy('location_hourly', INTERVAL '1 year');
--> statement-breakpoint
COMMENT ON VIEW "location_hourly" IS 'Statistics per hour and device. The latest hours are computed from location_events until they are refreshed.';
