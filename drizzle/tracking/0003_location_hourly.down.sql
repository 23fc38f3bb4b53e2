-- Takes back 0003_location_hourly: the summaries, also of points that are gone.
DROP MATERIALIZED VIEW "location_hourly";
