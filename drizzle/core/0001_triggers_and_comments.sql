-- updated_at is kept by triggers; comments say what the names do not.
CREATE FUNCTION "set_updated_at"() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
  NEW."updated_at" := now();
  RETURN NEW;
END
$$;
--> statement-breakpoint
COMMENT ON FUNCTION "set_updated_at"() IS 'Keeps updated_at: the time of the transaction that last changed the row.';
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "users"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "auth_tokens"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "roles"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "user_roles"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "user_metadata"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "users" IS 'People who can log in, for every application.';
--> statement-breakpoint
COMMENT ON COLUMN "users"."email" IS 'Lower-case, so that uniqueness ignores case.';
--> statement-breakpoint
COMMENT ON COLUMN "users"."password_hash" IS 'bcrypt hash; never leaves the authentication functions.';
--> statement-breakpoint
COMMENT ON COLUMN "users"."is_active" IS 'False locks the person out of every application.';
--> statement-breakpoint
COMMENT ON COLUMN "users"."last_login_at" IS 'Last successful login, in any application.';
--> statement-breakpoint
COMMENT ON TABLE "auth_tokens" IS 'Issued tokens. Only hashes are stored: a stolen table opens no door.';
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."token_hash" IS 'SHA-256 of the token, or of the jti of a JWT, in hexadecimal.';
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."family_id" IS 'Refresh tokens that were rotated out of one login share it.';
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."used_at" IS 'When a one-time token was consumed, or a refresh token rotated.';
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."revoked_at" IS 'When the token was withdrawn before it expired.';
--> statement-breakpoint
COMMENT ON COLUMN "auth_tokens"."ip_address" IS 'Address that the token was issued to.';
--> statement-breakpoint
COMMENT ON TABLE "roles" IS 'Roles that applications check.';
--> statement-breakpoint
COMMENT ON TABLE "user_roles" IS 'Which user has which role.';
--> statement-breakpoint
COMMENT ON TABLE "user_metadata" IS 'Flexible user metadata storage';
