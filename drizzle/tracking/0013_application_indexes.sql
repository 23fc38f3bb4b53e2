-- Each application's view finds its devices here without the points of the others. Locks out writers while it
-- runs: about 3 seconds for a million uncompressed points.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX "idx_location_mextrack" ON "location_events" USING btree ("device_id","time" DESC NULLS FIRST) WHERE "location_events"."app_source" = 'mextrack';--> statement-breakpoint
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX "idx_location_pshop" ON "location_events" USING btree ("device_id","time" DESC NULLS FIRST) WHERE "location_events"."app_source" = 'pshop';
