-- Takes back 0009_late_hour_check.
ALTER TABLE "location_late_hours" DROP CONSTRAINT "check_late_hour";
