// Checks whether a table exists. This package's own tables, for example, do not exist before the first migration.
import type { Database } from '../pool.ts';

export async function hasRelation(db: Database, name: string): Promise<boolean> {
  const query = 'SELECT pg_catalog.to_regclass($1) IS NOT NULL AS found';
  const { rows } = await db.primary.query<{ found: boolean }>(query, [name]);
  return rows[0]?.found ?? false;
}
