-- Takes back 0000_tables: the tables and all their rows.
DROP TABLE "user_metadata";
--> statement-breakpoint
DROP TABLE "user_roles";
--> statement-breakpoint
DROP TABLE "roles";
--> statement-breakpoint
DROP TABLE "auth_tokens";
--> statement-breakpoint
DROP TABLE "users";
--> statement-breakpoint
DROP TYPE "public"."token_type";
