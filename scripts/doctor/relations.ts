// Tells whether a table exists. Missing tables are reported by the checks of migrations.
import type { Transaction } from '../../src/transaction.ts';

export async function hasRelation(db: Transaction, name: string): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [name]);
  return rows[0]?.found ?? false;
}
