// Work that takes as long as it needs, in a database whose owner set timeouts for its applications.
import type { Transaction } from '../transaction.ts';

/** PostgreSQL's timeouts that end work that is slow. 15 and 16 lack transaction_timeout. */
export const endingTimeouts: readonly string[] = [
  'statement_timeout',
  'transaction_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
];

/** Until the transaction ends. */
export async function liftTimeouts(transaction: Transaction): Promise<void> {
  await transaction.query(
    "SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name = ANY ($1)",
    [endingTimeouts],
  );
}
