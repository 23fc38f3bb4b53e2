-- Takes back 0000_tables: the tables and all their rows.
DROP TABLE "vehicle_assignments";
--> statement-breakpoint
DROP TABLE "drivers";
--> statement-breakpoint
DROP TABLE "vehicles";
