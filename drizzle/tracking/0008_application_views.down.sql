-- Takes back 0008_application_views: the points stay, the applications lose their way to them.
DROP VIEW "mextrack"."location_hourly";
--> statement-breakpoint
DROP VIEW "mextrack"."location_events";
--> statement-breakpoint
DROP SCHEMA "mextrack";
--> statement-breakpoint
DROP VIEW "pshop"."location_hourly";
--> statement-breakpoint
DROP VIEW "pshop"."location_events";
--> statement-breakpoint
DROP SCHEMA "pshop";
