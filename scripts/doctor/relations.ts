// Whether a table exists. It does not before the first migration, which the check of migrations reports.
import type { Transaction } from '../../src/transaction.ts';

export async function hasRelation(db: Transaction, name: string): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [name]);
  return rows[0]?.found ?? false;
}
