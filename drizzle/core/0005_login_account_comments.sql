COMMENT ON COLUMN "login_attempts"."account" IS 'Of a known address: the subject of its account. With it the row goes when the person is erased.';
--> statement-breakpoint
COMMENT ON COLUMN "login_attempts"."user_agent" IS 'Of the latest attempt, for whoever looks into an attack. None of a known address, whose row lives for long.';
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."token_hash" IS 'SHA-256 in hexadecimal, of the token, or of "jti ", with the space, and the jti of a JWT.';
