-- Takes back 0004_known_address_accounts.
ALTER TABLE "login_attempts" DROP CONSTRAINT "check_login_account";
--> statement-breakpoint
DROP INDEX "idx_login_attempts_account";
--> statement-breakpoint
ALTER TABLE "login_attempts" DROP COLUMN "account";
