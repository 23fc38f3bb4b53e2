-- Takes back 0005_location_writers.
DROP TABLE "location_writers";
--> statement-breakpoint
DROP TABLE "location_late_hours";
