-- Counters of an e-mail that nobody has any more could not be found when its former owner is erased.
-- With the owner's rights: whoever changes an e-mail need not be allowed to read login_attempts.
CREATE FUNCTION "forget_former_email"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  former text := encode(sha256(convert_to(OLD.email, 'UTF8')), 'hex');
BEGIN
  DELETE FROM public.login_attempts WHERE (subject_type = 'account' AND subject = former) OR account = former;
  RETURN NULL;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION "forget_former_email"() FROM PUBLIC;
--> statement-breakpoint
COMMENT ON FUNCTION "forget_former_email"() IS 'Deletes the counters of failed logins of an e-mail that its user gives up.';
--> statement-breakpoint
CREATE TRIGGER "forget_changed_email" AFTER UPDATE OF "email" ON "users"
FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email) EXECUTE FUNCTION "forget_former_email"();
--> statement-breakpoint
CREATE TRIGGER "forget_deleted_email" AFTER DELETE ON "users"
FOR EACH ROW EXECUTE FUNCTION "forget_former_email"();
