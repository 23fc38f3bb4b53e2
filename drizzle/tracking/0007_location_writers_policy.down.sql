-- Takes back 0007_location_writers_policy.
DROP POLICY "own_rows" ON "location_writers";
--> statement-breakpoint
ALTER TABLE "location_writers" DISABLE ROW LEVEL SECURITY;
