// Column helpers shared by every table, so that keys and timestamps have one definition.
import type { Column } from 'drizzle-orm';
import { timestamp, uuid } from 'drizzle-orm/pg-core';

/** Every timestamp carries a zone and is stored in UTC. Read and written as a JavaScript `Date`. */
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true });

export const primaryId = () => uuid('id').primaryKey().defaultRandom();

/**
 * A person of atriz_core, by default in `user_id`. A plain uuid: no foreign key spans databases, so
 * `requireUser` from `@atriz/database/references` keeps it true, and `db:references` checks it.
 */
export function coreUserId<Name extends string = 'user_id'>(name: Name = 'user_id' as Name) {
  const builder = uuid(name);
  coreUserColumns.add(configurationOf(builder));
  return builder;
}

/** Whether `coreUserId` made this column of a table or view. */
export const isCoreUserId = (column: Column): boolean => coreUserColumns.has(configurationOf(column));

// Drizzle hands the configuration of a column's builder on to the column: the one thing both share.
const coreUserColumns = new WeakSet<object>();
const configurationOf = (column: object) => (column as { config: object }).config;

/** `updated_at` is kept by the trigger `set_updated_at`, whatever the client sends. */
export const timestamps = () => ({
  createdAt: timestamptz('created_at').notNull().defaultNow(),
  updatedAt: timestamptz('updated_at').notNull().defaultNow(),
});
