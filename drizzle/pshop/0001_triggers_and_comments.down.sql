-- Takes back 0001_triggers_and_comments.
COMMENT ON TABLE "products" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "products"."user_id" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "products"."sku" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "products"."price" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "products"."currency" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "orders" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "orders"."user_id" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "orders"."total" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "orders"."currency" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "order_items" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "order_items"."unit_price" IS NULL;
--> statement-breakpoint
COMMENT ON TABLE "deliveries" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "deliveries"."user_id" IS NULL;
--> statement-breakpoint
COMMENT ON COLUMN "deliveries"."device_id" IS NULL;
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "deliveries";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "order_items";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "orders";
--> statement-breakpoint
DROP TRIGGER "set_updated_at" ON "products";
--> statement-breakpoint
DROP FUNCTION "set_updated_at"();
