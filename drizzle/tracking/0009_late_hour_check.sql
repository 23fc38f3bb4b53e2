-- What is no hour is none that a refresh could take: it would fail, and every later one with it.
DELETE FROM "location_late_hours" WHERE NOT isfinite("hour");
--> statement-breakpoint
UPDATE "location_late_hours" SET "hour" = date_trunc('hour', "hour", 'UTC') WHERE "hour" <> date_trunc('hour', "hour", 'UTC');
--> statement-breakpoint
-- Notes live until the next refresh: there are few to check.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE "location_late_hours" ADD CONSTRAINT "check_late_hour" CHECK ("location_late_hours"."hour" = date_trunc('hour', "location_late_hours"."hour", 'UTC') AND isfinite("location_late_hours"."hour"));
