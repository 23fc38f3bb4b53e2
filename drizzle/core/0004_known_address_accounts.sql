-- Known addresses so far do not say whose they are, so that no erasure finds them: they are forgotten,
-- and known again after the next login there.
DELETE FROM "login_attempts" WHERE "subject_type" = 'known_address';--> statement-breakpoint
ALTER TABLE "login_attempts" ADD COLUMN "account" varchar(64);--> statement-breakpoint
-- Counters live for minutes: the table is small, and its new column empty.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX "idx_login_attempts_account" ON "login_attempts" USING btree ("account") WHERE "login_attempts"."account" IS NOT NULL;--> statement-breakpoint
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE "login_attempts" ADD CONSTRAINT "check_login_account" CHECK ("login_attempts"."account" ~ '^[0-9a-f]{64}$');