// A message for each query that has ended, from which traces and a log of slow queries can be made.
import { channel } from 'node:diagnostics_channel';

/** What is published on the diagnostics channel `@atriz/database:query`. */
export interface QueryMessage {
  /** Name of the database. */
  readonly database: string;
  /** As it was sent, with `$1` for the first parameter. Values that the caller wrote into it are part of it. */
  readonly text: string;
  /** From the call to the end of the last row, the wait for a connection included. */
  readonly durationMs: number;
  /** Rows returned or changed; null for a COPY TO and for a query that failed. */
  readonly rows: number | null;
  readonly error: unknown;
}

const queries = channel('@atriz/database:query');

/** Costs nothing where nobody has subscribed. */
export function publishQuery(message: () => QueryMessage): void {
  if (queries.hasSubscribers) queries.publish(message());
}
