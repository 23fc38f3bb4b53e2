-- Takes back 0000_tables: the tables and all their rows.
DROP TABLE "deliveries";
--> statement-breakpoint
DROP TABLE "order_items";
--> statement-breakpoint
DROP TABLE "orders";
--> statement-breakpoint
DROP TABLE "products";
--> statement-breakpoint
DROP TYPE "public"."order_status";
--> statement-breakpoint
DROP TYPE "public"."delivery_status";
