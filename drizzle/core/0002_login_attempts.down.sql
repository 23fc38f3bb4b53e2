-- Takes back 0002_login_attempts.
DROP INDEX "idx_auth_tokens_live_refresh";
--> statement-breakpoint
DROP INDEX "idx_login_attempts_expires";
--> statement-breakpoint
DROP TABLE "login_attempts";
--> statement-breakpoint
DROP TYPE "public"."login_subject";
