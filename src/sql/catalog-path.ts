// Transactions that resolve unqualified names in pg_catalog, because a database owner may create objects with the
// same names in other schemas.
import type { Pool, QueryResult } from '../pool.ts';
import { type Transaction, type TransactionOptions, withTransaction } from '../transaction.ts';

/**
 * Runs `work` in a transaction with the search_path pg_catalog. Use it for statements of a superuser, who must not run
 * functions or operators of a database owner. Qualify the names of objects in other schemas, also those of extensions.
 */
export function withCatalogPath<Result>(
  db: Pool,
  work: (transaction: Transaction) => Promise<Result>,
  options: TransactionOptions = {},
): Promise<Result> {
  const run = async (transaction: Transaction) => {
    await transaction.query('SET LOCAL search_path = pg_catalog, pg_temp');
    return work(transaction);
  };
  return withTransaction(db, run, options);
}

/** Runs one read-only query with the search_path of `withCatalogPath`. */
export const queryCatalog = <Row extends object>(
  db: Pool,
  text: string,
  parameters: readonly unknown[] = [],
): Promise<QueryResult<Row>> =>
  withCatalogPath(db, (transaction) => transaction.query<Row>(text, parameters), { readOnly: true });
