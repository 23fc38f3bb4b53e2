CREATE TYPE "public"."login_subject" AS ENUM('address', 'account', 'known_address');--> statement-breakpoint
CREATE TABLE "login_attempts" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"subject_type" "login_subject" NOT NULL,
	"subject" varchar(64) NOT NULL,
	"forgiven_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"user_agent" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "login_attempts_subject_key" UNIQUE("subject_type","subject"),
	CONSTRAINT "check_login_subject" CHECK ("login_attempts"."subject_type" = 'address' OR "login_attempts"."subject" ~ '^[0-9a-f]{64}$')
);
--> statement-breakpoint
CREATE INDEX "idx_login_attempts_expires" ON "login_attempts" USING btree ("expires_at");--> statement-breakpoint
-- Until now nothing issued tokens, so the table is empty or nearly so.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX "idx_auth_tokens_live_refresh" ON "auth_tokens" USING btree ("family_id") WHERE "auth_tokens"."token_type" = 'refresh' AND "auth_tokens"."used_at" IS NULL AND "auth_tokens"."revoked_at" IS NULL;