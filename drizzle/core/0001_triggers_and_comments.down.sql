-- Takes back 0001_triggers_and_comments.
COMMENT ON TABLE "users" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "users"."email" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "users"."password_hash" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "users"."is_active" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "users"."last_login_at" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "auth_tokens" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."token_hash" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."family_id" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."used_at" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."revoked_at" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."ip_address" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "roles" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "user_roles" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "user_metadata" IS NULL;
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "user_metadata";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "user_roles";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "roles";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "auth_tokens";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "users";
--> statement-breakpoint
DROP FUNCTION "set_updated_at"();
