-- TimescaleDB made this index with the hypertable. The schema names it since, so that drizzle-kit leaves it alone.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX IF NOT EXISTS "location_events_time_idx" ON "location_events" USING btree ("time" DESC NULLS FIRST);
