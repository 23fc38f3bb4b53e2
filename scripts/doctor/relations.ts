// Whether a table is there: a database that is not migrated yet has none, which the check of migrations says.
import type { Transaction } from '../../src/transaction.ts';

export async function hasRelation(db: Transaction, name: string): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [name]);
  return rows[0]?.found ?? false;
}
