// Column helpers shared by every table, so that keys and timestamps have one definition.
import { timestamp, uuid } from 'drizzle-orm/pg-core';

/** Every timestamp carries a zone and is stored in UTC. Read and written as a JavaScript `Date`. */
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true });

export const primaryId = () => uuid('id').primaryKey().defaultRandom();

/**
 * `user_id` of a person in atriz_core. A plain uuid: no foreign key spans databases, so
 * `requireUser` from `@atriz/database/references` keeps it true.
 */
export const coreUserId = () => uuid('user_id');

/** `updated_at` is kept by the trigger `set_updated_at`, whatever the client sends. */
export const timestamps = () => ({
  createdAt: timestamptz('created_at').notNull().defaultNow(),
  updatedAt: timestamptz('updated_at').notNull().defaultNow(),
});
