-- Takes back 0006_former_emails.
DROP TRIGGER "forget_deleted_email" ON "users";
--> statement-breakpoint
DROP TRIGGER "forget_changed_email" ON "users";
--> statement-breakpoint
DROP FUNCTION "forget_former_email"();
