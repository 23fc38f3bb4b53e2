// Publishes notices of the server, and ended queries for traces and slow query logs.
import { channel } from 'node:diagnostics_channel';
import type postgres from 'postgres';

/** Message on the diagnostics channel `@atriz/database:query`. */
export interface QueryMessage {
  /** Name of the database. */
  readonly database: string;
  /** SQL as sent, with `$1` for the first parameter. Includes values that the caller wrote into the text. */
  readonly text: string;
  /** Milliseconds from the start to the end of the query, including the wait for a connection. */
  readonly durationMs: number;
  /** Rows returned or changed; null for a query that failed, and possibly for a COPY TO. */
  readonly rows: number | null;
  readonly error: unknown;
}

const queries = channel('@atriz/database:query');

/** Builds the message only if there are subscribers. */
export function publishQuery(message: () => QueryMessage): void {
  if (queries.hasSubscribers) queries.publish(message());
}

/** Message on the diagnostics channel `@atriz/database:notice`: a NOTICE or WARNING of the server. */
export interface NoticeMessage {
  /** Name of the database. */
  readonly database: string;
  /** `NOTICE`, `WARNING`, `INFO`, `DEBUG` or `LOG`. */
  readonly severity: string;
  /** SQLSTATE. */
  readonly code: string;
  readonly message: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
}

const notices = channel('@atriz/database:notice');

export function publishNotice(database: string, notice: postgres.Notice): void {
  if (!notices.hasSubscribers) return;
  const { severity = '', code = '', message = '', detail, hint } = notice;
  notices.publish({ database, severity, code, message, detail, hint } satisfies NoticeMessage);
}
