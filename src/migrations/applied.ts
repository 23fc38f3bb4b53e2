// Reads the applied migrations from drizzle-kit's table.
import { sqlState } from '../errors.ts';
import type { Database } from '../pool.ts';
import { migrationsTable } from './journal.ts';
import type { AppliedRow } from './state.ts';

/**
 * Reads the applied migrations in one round trip. Empty if the table does not exist. Do not call it in a transaction,
 * because a missing table would abort the transaction.
 */
export async function readApplied(db: Database): Promise<AppliedRow[]> {
  try {
    const { rows } = await db.primary.query<{ hash: string; created_at: string }>(
      `SELECT hash, created_at FROM ${migrationsTable}`,
    );
    return rows.map(({ hash, created_at }) => ({ hash, createdAt: Number(created_at) }));
  } catch (error) {
    // 42P01 undefined_table, 3F000 invalid_schema_name.
    if (['42P01', '3F000'].includes(sqlState(error) ?? '')) return [];
    throw error;
  }
}
