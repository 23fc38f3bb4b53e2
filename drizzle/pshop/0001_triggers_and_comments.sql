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
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "products"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "orders"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "order_items"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
CREATE TRIGGER "set_updated_at" BEFORE UPDATE ON "deliveries"
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION "set_updated_at"();
--> statement-breakpoint
COMMENT ON TABLE "products" IS 'What sellers offer.';
--> statement-breakpoint
COMMENT ON COLUMN "products"."user_id" IS 'Seller: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON COLUMN "products"."sku" IS 'Stock-keeping unit, unique for each seller.';
--> statement-breakpoint
COMMENT ON COLUMN "products"."price" IS 'Price of one unit, in currency.';
--> statement-breakpoint
COMMENT ON COLUMN "products"."currency" IS 'ISO 4217 code.';
--> statement-breakpoint
COMMENT ON TABLE "orders" IS 'Orders of customers.';
--> statement-breakpoint
COMMENT ON COLUMN "orders"."user_id" IS 'Customer: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON COLUMN "orders"."total" IS 'What the customer pays, after discounts.';
--> statement-breakpoint
COMMENT ON COLUMN "orders"."currency" IS 'ISO 4217 code.';
--> statement-breakpoint
COMMENT ON TABLE "order_items" IS 'Lines of an order.';
--> statement-breakpoint
COMMENT ON COLUMN "order_items"."unit_price" IS 'Price of one unit when the order was placed.';
--> statement-breakpoint
COMMENT ON TABLE "deliveries" IS 'Trips that bring an order to its customer.';
--> statement-breakpoint
COMMENT ON COLUMN "deliveries"."user_id" IS 'Courier: users.id in atriz_core. No foreign key spans databases.';
--> statement-breakpoint
COMMENT ON COLUMN "deliveries"."device_id" IS 'Phone that reports the position: location_events.device_id in atriz_tracking.';
