// Runs CREATE and DROP INDEX CONCURRENTLY in one transaction: in PGlite, several would leave a broken catalog. The
// result is the same, because the server has one backend, so no other session can write at the same time.
import { parseStatements } from './sql.ts';

const concurrently = /(\bindex\s+)concurrently\b/i;
const perChunk = /\btimescaledb\s*\.\s*transaction_per_chunk\b(?:\s*=\s*\w+)?/i;

/** The form for one transaction. Inside of a transaction, the statement is not changed, and the backend refuses it. */
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
