-- Takes back 0010_late_refresh_policy.
COMMENT ON COLUMN "location_hourly"."avg_longitude" IS NULL;
--> statement-breakpoint
-- The versions of TimescaleDB name either the view or its storage as the hypertable of the job.
SELECT delete_job(j.job_id)
FROM timescaledb_information.jobs j
JOIN timescaledb_information.continuous_aggregates c
  ON j.hypertable_name IN (c.view_name, c.materialization_hypertable_name)
WHERE c.view_schema = 'public' AND c.view_name = 'location_hourly'
  AND j.proc_name = 'policy_refresh_continuous_aggregate'
  AND (j.config ->> 'end_offset')::interval >= INTERVAL '7 days';
