CREATE TABLE "location_events" (
	"time" timestamp with time zone NOT NULL,
	"device_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"app_source" varchar(50) NOT NULL,
	"latitude" numeric(10, 8) NOT NULL,
	"longitude" numeric(11, 8) NOT NULL,
	"accuracy" numeric(6, 2),
	"altitude" numeric(8, 2),
	"speed" numeric(6, 2),
	"heading" numeric(5, 2),
	"metadata" jsonb,
	CONSTRAINT "check_latitude" CHECK ("location_events"."latitude" BETWEEN -90 AND 90),
	CONSTRAINT "check_longitude" CHECK ("location_events"."longitude" BETWEEN -180 AND 180),
	CONSTRAINT "check_heading" CHECK ("location_events"."heading" BETWEEN 0 AND 360),
	CONSTRAINT "check_accuracy" CHECK ("location_events"."accuracy" >= 0 AND "location_events"."accuracy" < 'NaN'),
	CONSTRAINT "check_altitude" CHECK ("location_events"."altitude" < 'NaN'),
	CONSTRAINT "check_speed" CHECK ("location_events"."speed" >= 0 AND "location_events"."speed" < 'NaN')
);
--> statement-breakpoint
CREATE INDEX "idx_location_device" ON "location_events" USING btree ("device_id","time" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX "idx_location_user" ON "location_events" USING btree ("user_id","time" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX "idx_location_app" ON "location_events" USING btree ("app_source","time" DESC NULLS FIRST);