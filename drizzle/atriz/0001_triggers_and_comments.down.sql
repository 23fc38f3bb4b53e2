-- Takes back 0001_triggers_and_comments.
COMMENT ON TABLE "user_profiles" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "user_profiles"."user_id" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "user_profiles"."locale" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "user_profiles"."time_zone" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "user_preferences" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "user_preferences"."user_id" IS NULL;
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "user_preferences";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "user_profiles";
--> statement-breakpoint
DROP FUNCTION "set_updated_at"();
