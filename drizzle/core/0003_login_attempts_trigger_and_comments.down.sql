-- Takes back 0003_login_attempts_trigger_and_comments.
COMMENT ON TABLE "login_attempts" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."subject_type" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."subject" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."forgiven_at" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."expires_at" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."user_agent" IS NULL;
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "login_attempts";
