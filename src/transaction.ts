// Transactions: commit when the work resolves, roll back when it throws, retry after a collision.
import { setTimeout as sleep } from 'node:timers/promises';
import type postgres from 'postgres';
import { type AnyDatabase, databaseOf, Transaction } from './driver/database.ts';
import type { Schema } from './driver/orm.ts';
import { sqlState, ValidationError } from './errors.ts';
import type { Pool } from './pool.ts';

export { Transaction };

const isolationLevels = ['read committed', 'repeatable read', 'serializable'] as const;

export interface TransactionOptions {
  /** Default: the isolation level of the server, normally `read committed`. */
  isolation?: (typeof isolationLevels)[number];
  readOnly?: boolean;
  /** How many times to repeat `work` after a serialization failure or a deadlock. Default 0. */
  retries?: number;
}

/**
 * Runs `work` in a transaction or, inside of another transaction, in a savepoint. With `retries`, `work` may run
 * several times, so it must have no effects outside of the database. Inside of `work`, await every statement, and read
 * or end the stream of every COPY.
 * @returns what `work` returns.
 * @throws what `work` throws, after the rollback; TransactionRolledBackError; ConnectionError; ValidationError for
 * wrong options; PostgreSQL's error if the COMMIT fails.
 */
export async function withTransaction<Result, S extends Schema>(
  given: AnyDatabase<S>,
  work: (transaction: Transaction<S>) => Promise<Result>,
  options: TransactionOptions = {},
): Promise<Result> {
  const database = databaseOf(given);
  const run = (sql: postgres.TransactionSql) => work(new Transaction(sql, database));

  if (database instanceof Transaction) {
    if (options.isolation || options.readOnly || options.retries) {
      throw new ValidationError(
        'withTransaction inside of a transaction is a savepoint and takes no options: give them to the outer one.',
      );
    }
    return (await database.sql.savepoint(run)) as Result;
  }

  const characteristics = describe(options);
  for (let attempt = 0; ; attempt += 1) {
    try {
      return (await (database as Pool<S>).sql.begin(characteristics, run)) as Result;
    } catch (error) {
      if (attempt >= (options.retries ?? 0) || !isCollision(error)) throw error;
      await sleep(Math.random() * Math.min(10 * 2 ** attempt, 1000));
    }
  }
}

function describe({ isolation, readOnly, retries = 0 }: TransactionOptions): string {
  if (isolation !== undefined && !isolationLevels.includes(isolation)) {
    throw new ValidationError(`isolation is "${isolation}": use ${isolationLevels.join(', ')}.`);
  }
  if (!Number.isInteger(retries) || retries < 0) {
    throw new ValidationError(`retries is ${retries}: use a whole number from 0.`);
  }
  return [isolation && `isolation level ${isolation}`, readOnly && 'read only'].filter(Boolean).join(' ');
}

// 40001 serialization_failure, 40P01 deadlock_detected.
const isCollision = (error: unknown) => ['40001', '40P01'].includes(sqlState(error) ?? '');
