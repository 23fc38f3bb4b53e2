// Transactions in which a name means PostgreSQL's own: the owner of a database may put others before it.
import type { Pool } from '../pool.ts';
import { type Transaction, type TransactionOptions, withTransaction } from '../transaction.ts';

/**
 * For statements of a superuser, who must not run functions or operators that an owner made. What stands in
 * the schema public has to be named with its schema, functions of an extension with that of the extension.
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
