-- A second refresh policy, for points that come late: TimescaleDB knows which hours changed, whoever wrote them,
-- and refreshes those alone. Two on one aggregate: TimescaleDB 2.21 and newer. The window ends where that of the
-- first begins, and begins two days before the raw retention of 30 days: refreshing dropped points would delete
-- their summary. Where points of the window were dropped by hand, the first run waits until those have left it.
DO $$
DECLARE
  late_job integer := add_continuous_aggregate_policy('location_hourly',
    start_offset => INTERVAL '28 days',
    end_offset => INTERVAL '7 days',
    schedule_interval => INTERVAL '1 hour');
  newest_without_points timestamptz := (
    SELECT max(hour)
    FROM generate_series(date_trunc('hour', now() - INTERVAL '29 days'), now() - INTERVAL '6 days', INTERVAL '1 hour') AS hour
    WHERE NOT EXISTS (
      SELECT FROM timescaledb_information.chunks c
      WHERE c.hypertable_schema = 'public' AND c.hypertable_name = 'location_events'
        AND hour >= c.range_start AND hour < c.range_end
    ) AND EXISTS (SELECT FROM "location_hourly" h WHERE h.hour = hour.hour)
  );
BEGIN
  IF newest_without_points IS NOT NULL THEN
    PERFORM alter_job(late_job, next_start => newest_without_points + INTERVAL '29 days');
  END IF;
END
$$;
--> statement-breakpoint
COMMENT ON COLUMN "location_hourly"."avg_longitude" IS 'Plain average: of points on both sides of 180° it lies between them on the wrong side of the earth, anywhere from -180 to 180.';
