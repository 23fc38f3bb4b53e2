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
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "user_profiles"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "user_preferences"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "user_profiles" IS 'What the Atriz site shows about a person, one row per user.';
--> statement-breakpoint
COMMENT ON COLUMN "user_profiles"."user_id" IS 'Person of this row: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON COLUMN "user_profiles"."locale" IS 'BCP 47 language tag, e.g. es-AR.';
--> statement-breakpoint
COMMENT ON COLUMN "user_profiles"."time_zone" IS 'IANA time zone, for display only: every stored time is UTC.';
--> statement-breakpoint
COMMENT ON TABLE "user_preferences" IS 'Settings of a user, one row per key.';
--> statement-breakpoint
COMMENT ON COLUMN "user_preferences"."user_id" IS 'Person of this row: users.id in atriz_core. No foreign key spans databases.';
