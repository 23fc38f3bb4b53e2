-- Takes back 0000_tables: the tables and all their rows.
DROP TABLE "user_preferences";
--> statement-breakpoint
DROP TABLE "user_profiles";
