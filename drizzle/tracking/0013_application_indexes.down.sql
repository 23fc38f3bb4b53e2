-- Takes back 0013_application_indexes.
DROP INDEX "idx_location_pshop";
--> statement-breakpoint
DROP INDEX "idx_location_mextrack";
