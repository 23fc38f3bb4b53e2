-- Takes back 0005_login_account_comments.
COMMENT ON COLUMN "auth_tokens"."token_hash" IS 'SHA-256 of the token, or of the jti of a JWT, in hexadecimal.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."user_agent" IS 'Of the latest attempt, for whoever looks into an attack.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."account" IS NULL;
