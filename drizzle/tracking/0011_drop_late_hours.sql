-- TimescaleDB keeps this book itself: 0010_late_refresh_policy refreshes what is noted here, and what never was.
-- squawk-ignore ban-drop-table
DROP TABLE "location_late_hours";
