// CREATE and DROP INDEX in several transactions, which end with a broken catalog in PGlite. The server holds one
// backend, so nobody else would write meanwhile: one transaction has the same result.
import { parseStatements } from './sql.ts';

const concurrently = /(\bindex\s+)concurrently\b/i;
const perChunk = /\btimescaledb\s*\.\s*transaction_per_chunk\b(?:\s*=\s*\w+)?/i;

/** The statement for one transaction. Inside of a transaction it stays as it is, and the backend refuses it. */
export function inOneTransaction(sql: string, inTransaction: boolean): string {
  if (inTransaction || !(concurrently.test(sql) || perChunk.test(sql))) return sql;
  const statements = parseStatements(sql);
  const [statement] = statements ?? [];
  const isIndex = statement?.kind === 'IndexStmt' || statement?.kind === 'DropStmt';
  if (statements?.length !== 1 || !isIndex) return sql;
  return (
    sql
      .replace(concurrently, '$1')
      // An empty WITH () would be a syntax error; this is the default.
      .replace(perChunk, 'timescaledb.transaction_per_chunk = false')
  );
}
