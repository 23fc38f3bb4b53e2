-- Takes back 0001_location_events: the table and all its points.
DROP TABLE "location_events";
