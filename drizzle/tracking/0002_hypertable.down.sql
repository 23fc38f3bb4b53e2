-- Takes back 0002_hypertable: the points move into a plain table of the same shape.
CREATE TABLE "location_events_plain" (LIKE "location_events" INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
--> statement-breakpoint
INSERT INTO "location_events_plain" SELECT * FROM "location_events";
--> statement-breakpoint
DROP TABLE "location_events";
--> statement-breakpoint
ALTER TABLE "location_events_plain" RENAME TO "location_events";
--> statement-breakpoint
CREATE INDEX "idx_location_device" ON "location_events" USING btree ("device_id","time" DESC NULLS FIRST);
--> statement-breakpoint
CREATE INDEX "idx_location_user" ON "location_events" USING btree ("user_id","time" DESC NULLS FIRST);
--> statement-breakpoint
CREATE INDEX "idx_location_app" ON "location_events" USING btree ("app_source","time" DESC NULLS FIRST);
