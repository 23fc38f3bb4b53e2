// Publishes a message for each query that has ended, for traces and slow query logs.
import { channel } from 'node:diagnostics_channel';

/** Message on the diagnostics channel `@atriz/database:query`. */
export interface QueryMessage {
  /** Name of the database. */
  readonly database: string;
  /** SQL as sent, with `$1` for the first parameter. Includes values that the caller wrote into the text. */
  readonly text: string;
  /** From the call to the end of the last row, including the wait for a connection. */
  readonly durationMs: number;
  /** Rows returned or changed; null for a COPY TO and for a query that failed. */
  readonly rows: number | null;
  readonly error: unknown;
}

const queries = channel('@atriz/database:query');

/** Builds the message only if there are subscribers. */
export function publishQuery(message: () => QueryMessage): void {
  if (queries.hasSubscribers) queries.publish(message());
}
