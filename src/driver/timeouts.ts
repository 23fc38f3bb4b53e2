// Disables timeouts for long work, in databases whose owner set timeouts for applications.
import type { Transaction } from '../transaction.ts';

/** Settings that abort slow work. PostgreSQL 15 and 16 do not have transaction_timeout. */
export const endingTimeouts: readonly string[] = [
  'statement_timeout',
  'transaction_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
];

/** Disables the timeouts until the transaction ends. */
export async function liftTimeouts(transaction: Transaction): Promise<void> {
  await transaction.query(
    "SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name = ANY ($1)",
    [endingTimeouts],
  );
}
