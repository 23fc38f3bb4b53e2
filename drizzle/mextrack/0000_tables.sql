CREATE TABLE "drivers" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"user_id" uuid NOT NULL,
	"full_name" varchar(255) NOT NULL,
	"phone" varchar(50),
	"license_number" varchar(50) NOT NULL,
	"license_expires_on" date,
	"is_active" boolean DEFAULT true NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "drivers_user_id_key" UNIQUE("user_id"),
	CONSTRAINT "drivers_license_number_key" UNIQUE("license_number")
);
--> statement-breakpoint
CREATE TABLE "vehicle_assignments" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"vehicle_id" uuid NOT NULL,
	"driver_id" uuid NOT NULL,
	"starts_at" timestamp with time zone DEFAULT now() NOT NULL,
	"ends_at" timestamp with time zone,
	"notes" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "check_assignment_period" CHECK ("vehicle_assignments"."ends_at" > "vehicle_assignments"."starts_at")
);
--> statement-breakpoint
CREATE TABLE "vehicles" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"user_id" uuid NOT NULL,
	"vehicle_name" varchar(255) NOT NULL,
	"license_plate" varchar(20),
	"vin" varchar(17),
	"device_id" uuid,
	"make" varchar(100),
	"model" varchar(100),
	"model_year" smallint,
	"is_active" boolean DEFAULT true NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "vehicles_license_plate_key" UNIQUE("license_plate"),
	CONSTRAINT "vehicles_vin_key" UNIQUE("vin"),
	CONSTRAINT "vehicles_device_id_key" UNIQUE("device_id"),
	CONSTRAINT "check_vin" CHECK ("vehicles"."vin" ~ '^[A-HJ-NPR-Z0-9]{17}$'),
	CONSTRAINT "check_model_year" CHECK ("vehicles"."model_year" BETWEEN 1886 AND 2200)
);
--> statement-breakpoint
ALTER TABLE "vehicle_assignments" ADD CONSTRAINT "vehicle_assignments_vehicle_id_vehicles_id_fk" FOREIGN KEY ("vehicle_id") REFERENCES "public"."vehicles"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "vehicle_assignments" ADD CONSTRAINT "vehicle_assignments_driver_id_drivers_id_fk" FOREIGN KEY ("driver_id") REFERENCES "public"."drivers"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "idx_assignments_open_vehicle" ON "vehicle_assignments" USING btree ("vehicle_id") WHERE "vehicle_assignments"."ends_at" IS NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "idx_assignments_open_driver" ON "vehicle_assignments" USING btree ("driver_id") WHERE "vehicle_assignments"."ends_at" IS NULL;--> statement-breakpoint
CREATE INDEX "idx_assignments_vehicle" ON "vehicle_assignments" USING btree ("vehicle_id","starts_at" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX "idx_assignments_driver" ON "vehicle_assignments" USING btree ("driver_id","starts_at" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX "idx_vehicles_user" ON "vehicles" USING btree ("user_id");