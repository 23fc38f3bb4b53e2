-- updated_at is kept by a trigger; comments say what the names do not.
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "login_attempts"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "login_attempts" IS 'Counters of failed logins, by which further ones are limited. Purged when they expire.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."subject_type" IS 'account: from addresses where it never logged in; known_address: the account from an address where it did; address: all accounts from there.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."subject" IS 'An address (of IPv6 the /64 network), or the SHA-256 of what is counted: e-mails that nobody has are counted too, and not kept.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."forgiven_at" IS 'When the last counted failure is forgiven. Each one moves it on by window / limit; a window ahead is the limit.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."expires_at" IS 'From then on the row means nothing. Of a known address: how long the last success there is remembered.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."user_agent" IS 'Of the latest attempt, for whoever looks into an attack.';
