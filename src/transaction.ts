// Transactions: commit when the work resolves, roll back when it throws, repeat when two collide.
import { setTimeout as sleep } from 'node:timers/promises';
import type postgres from 'postgres';
import type { DatabaseKey } from './databases.ts';
import type { DrizzleSchema, Schema } from './driver/orm.ts';
import { sqlState, ValidationError } from './errors.ts';
import { Database, type Pool } from './pool.ts';

const isolationLevels = ['read committed', 'repeatable read', 'serializable'] as const;

export interface TransactionOptions {
  /** Default: the server's, which is `read committed`. */
  isolation?: (typeof isolationLevels)[number];
  readOnly?: boolean;
  /** Wait for a snapshot that cannot fail; only for serializable read-only transactions. */
  deferrable?: boolean;
  /** How often the whole work is repeated after a serialization failure or a deadlock. Default 0. */
  retries?: number;
}

/** An open transaction: `.query`, `.sql` and typed `.orm` on one connection. */
export class Transaction<S extends Schema = Schema> extends Database<S> {
  readonly sql: postgres.TransactionSql;
  readonly name: string;
  readonly key: DatabaseKey | undefined;
  readonly drizzleSchema: DrizzleSchema<S>;

  constructor(sql: postgres.TransactionSql, { name, key, drizzleSchema }: Pool<S> | Transaction<S>) {
    super();
    this.sql = sql;
    this.name = name;
    this.key = key;
    this.drizzleSchema = drizzleSchema;
  }

  /** Itself: transactions are the primary's. */
  get primary(): this {
    return this;
  }
}

/**
 * Runs `work` in a transaction of `database`. Inside of another transaction it is a savepoint.
 * `work` may run several times when `retries` is given, so it must not have other effects.
 * @throws what `work` throws, after the rollback.
 */
export async function withTransaction<Result, S extends Schema>(
  database: Pool<S> | Transaction<S>,
  work: (transaction: Transaction<S>) => Promise<Result>,
  options: TransactionOptions = {},
): Promise<Result> {
  const run = (sql: postgres.TransactionSql) => work(new Transaction(sql, database));

  if (database instanceof Transaction) {
    if (options.isolation || options.readOnly || options.deferrable || options.retries) {
      throw new ValidationError(
        'withTransaction inside of a transaction is a savepoint and takes no options: give them to the outer one.',
      );
    }
    return (await database.sql.savepoint(run)) as Result;
  }

  const characteristics = describe(options);
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await database.begin(characteristics, run);
    } catch (error) {
      if (attempt >= (options.retries ?? 0) || !isCollision(error)) throw error;
      await sleep(Math.random() * Math.min(10 * 2 ** attempt, 1000));
    }
  }
}

function describe({ isolation, readOnly, deferrable, retries = 0 }: TransactionOptions): string {
  if (isolation !== undefined && !isolationLevels.includes(isolation)) {
    throw new ValidationError(`isolation is "${isolation}": use ${isolationLevels.join(', ')}.`);
  }
  if (!Number.isInteger(retries) || retries < 0) {
    throw new ValidationError(`retries is ${retries}: use a whole number from 0.`);
  }
  return [isolation && `isolation level ${isolation}`, readOnly && 'read only', deferrable && 'deferrable']
    .filter(Boolean)
    .join(' ');
}

// 40001 serialization_failure, 40P01 deadlock_detected.
const isCollision = (error: unknown) => ['40001', '40P01'].includes(sqlState(error) ?? '');
