// Whether a table exists. Before the first migration it does not; the check of migrations reports that.
import type { Transaction } from '../../src/transaction.ts';

export async function hasRelation(db: Transaction, name: string): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [name]);
  return rows[0]?.found ?? false;
}
