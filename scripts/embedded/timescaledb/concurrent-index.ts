// Rewrites CREATE and DROP INDEX CONCURRENTLY to run in one transaction, because several transactions leave a broken
// catalog in PGlite. This blocks nobody: a database has one backend, so no other session writes at the same time.
import { parseStatements } from './sql.ts';

const concurrently = /(\bindex\s+)concurrently\b/i;
const perChunk = /\btimescaledb\s*\.\s*transaction_per_chunk\b(?:\s*=\s*\w+)?/i;

/** Returns SQL for one transaction. If a transaction is open, returns `sql` unchanged, and the backend refuses it. */
export function inOneTransaction(sql: string, inTransaction: boolean): string {
  if (inTransaction || !(concurrently.test(sql) || perChunk.test(sql))) return sql;
  const statements = parseStatements(sql);
  const [statement] = statements ?? [];
  if (!statement || statements?.length !== 1) return sql;
  if (!('IndexStmt' in statement || 'DropStmt' in statement)) return sql;
  return (
    sql
      .replace(concurrently, '$1')
      // Set to its default instead of removed, because an empty WITH () is a syntax error.
      .replace(perChunk, 'timescaledb.transaction_per_chunk = false')
  );
}
