// Column helpers for all tables, so that keys and timestamps have one definition.
import type { Column } from 'drizzle-orm';
import { timestamp, uuid } from 'drizzle-orm/pg-core';

/** A timestamp with time zone, which PostgreSQL stores in UTC. Read and written as a JavaScript `Date`. */
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true });

export const primaryId = () => uuid('id').primaryKey().defaultRandom();

/**
 * A column for a user id of atriz_core, by default named `user_id`. A foreign key cannot span databases, so
 * call `requireUser` from `@atriz/database/references` before a write. `db:references` finds unknown ids.
 */
export function coreUserId<Name extends string = 'user_id'>(name: Name = 'user_id' as Name) {
  const builder = uuid(name);
  coreUserColumns.add(configurationOf(builder));
  return builder;
}

/** Whether `coreUserId` created this column of a table or view. */
export const isCoreUserId = (column: Column): boolean => coreUserColumns.has(configurationOf(column));

// A column is recognised by `config`, the only object that it shares with its builder.
const coreUserColumns = new WeakSet<object>();
const configurationOf = (column: object) => (column as { config: object }).config;

/** When an update changes a row, the trigger `set_updated_at` sets `updated_at` and ignores the value of the client. */
export const timestamps = () => ({
  createdAt: timestamptz('created_at').notNull().defaultNow(),
  updatedAt: timestamptz('updated_at').notNull().defaultNow(),
});
