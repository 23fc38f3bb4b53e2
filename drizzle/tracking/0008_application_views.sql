-- Each application has a schema of its name, whose views show it its own points and take no others: row
-- security cannot be combined with compression. security_barrier: not even its functions see other rows.
-- ORDER BY: what stands behind a barrier is planned without the order that the query wants. In that of
-- idx_location_device a device's newest point is one step away; otherwise its whole past would be sorted.
CREATE SCHEMA "mextrack";
--> statement-breakpoint
CREATE VIEW "mextrack"."location_events" WITH (security_barrier = true) AS
SELECT
  "time", "device_id", "user_id", "app_source",
  "latitude", "longitude", "accuracy", "altitude", "speed", "heading", "metadata"
FROM "public"."location_events"
WHERE "app_source" = 'mextrack'
ORDER BY "device_id", "time" DESC
WITH CASCADED CHECK OPTION;
--> statement-breakpoint
CREATE VIEW "mextrack"."location_hourly" WITH (security_barrier = true) AS
SELECT
  "hour", "device_id", "user_id", "app_source",
  "point_count", "avg_latitude", "avg_longitude", "avg_speed", "max_speed", "first_event", "last_event"
FROM "public"."location_hourly"
WHERE "app_source" = 'mextrack';
--> statement-breakpoint
COMMENT ON SCHEMA "mextrack" IS 'What mextrack sees of the points: its own. Stands before public in the search_path of its role.';
--> statement-breakpoint
COMMENT ON VIEW "mextrack"."location_events" IS 'The points whose app_source is mextrack; others are neither shown nor taken.';
--> statement-breakpoint
COMMENT ON VIEW "mextrack"."location_hourly" IS 'The hours whose app_source is mextrack.';
--> statement-breakpoint
CREATE SCHEMA "pshop";
--> statement-breakpoint
CREATE VIEW "pshop"."location_events" WITH (security_barrier = true) AS
SELECT
  "time", "device_id", "user_id", "app_source",
  "latitude", "longitude", "accuracy", "altitude", "speed", "heading", "metadata"
FROM "public"."location_events"
WHERE "app_source" = 'pshop'
ORDER BY "device_id", "time" DESC
WITH CASCADED CHECK OPTION;
--> statement-breakpoint
CREATE VIEW "pshop"."location_hourly" WITH (security_barrier = true) AS
SELECT
  "hour", "device_id", "user_id", "app_source",
  "point_count", "avg_latitude", "avg_longitude", "avg_speed", "max_speed", "first_event", "last_event"
FROM "public"."location_hourly"
WHERE "app_source" = 'pshop';
--> statement-breakpoint
COMMENT ON SCHEMA "pshop" IS 'What pshop sees of the points: its own. Stands before public in the search_path of its role.';
--> statement-breakpoint
COMMENT ON VIEW "pshop"."location_events" IS 'The points whose app_source is pshop; others are neither shown nor taken.';
--> statement-breakpoint
COMMENT ON VIEW "pshop"."location_hourly" IS 'The hours whose app_source is pshop.';
