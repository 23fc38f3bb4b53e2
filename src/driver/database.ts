// What runs queries: a pool or a transaction.
import type { PgQueryResultHKT, PgTransaction } from 'drizzle-orm/pg-core';
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import type postgres from 'postgres';
import type { DatabaseKey } from '../databases.ts';
import { ValidationError } from '../errors.ts';
import { createOrm, type DrizzleSchema, type Schema, type SqlTag, transactionClients } from './orm.ts';
import { encodeParameter, unknownType } from './parameters.ts';

export interface QueryResult<Row> {
  rows: Row[];
  /** Rows returned, or touched by an INSERT, UPDATE, DELETE, MERGE or COPY. */
  rowCount: number;
}

/** A pool or a transaction: the part that both have. */
export abstract class Database<S extends Schema = Schema> {
  /** The postgres.js tag: server-side prepared statements, dates and JSON parsed. For hot paths. */
  abstract readonly sql: SqlTag;
  /** Name of the database, for messages. */
  abstract readonly name: string;
  /** Its key in the registry, where the pool was made with one or the database has its registered name. */
  abstract readonly key: DatabaseKey | undefined;
  /** The same database without its replicas: for reads that must not be late. */
  abstract readonly primary: Database<S>;
  /** @internal */
  abstract readonly drizzleSchema: DrizzleSchema<S>;
  #orm: PostgresJsDatabase<S> | undefined;

  /** Typed Drizzle on the same connections. Built at its first use: many transactions need none. */
  get orm(): PostgresJsDatabase<S> {
    this.#orm ??= createOrm(this.sql, this.drizzleSchema, this);
    return this.#orm;
  }

  /**
   * Runs one statement with `$1`-style parameters. Dates, arrays, objects and `undefined` are
   * encoded as node-postgres does. Without parameters `text` may hold several statements; the
   * last one's rows are returned.
   */
  async query<Row extends object = Record<string, unknown>>(
    text: string,
    parameters: readonly unknown[] = [],
  ): Promise<QueryResult<Row>> {
    const encoded = parameters.map((value) => this.sql.typed(encodeParameter(value) as string, unknownType));
    const results = await this.sql.unsafe(text, encoded, { prepare: encoded.length > 0 });
    const last = Array.isArray(results[0]) ? results.at(-1) : results;
    const rows = last as unknown as postgres.RowList<Row[]>;
    return { rows: [...rows], rowCount: rows.count ?? rows.length };
  }
}

/** An open transaction: `.query`, `.sql` and typed `.orm` on one connection. */
export class Transaction<S extends Schema = Schema> extends Database<S> {
  readonly sql: postgres.TransactionSql;
  readonly name: string;
  readonly key: DatabaseKey | undefined;
  /** @internal */
  readonly drizzleSchema: DrizzleSchema<S>;

  /** @internal */
  constructor(sql: postgres.TransactionSql, { name, key, drizzleSchema }: Database<S>) {
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

/** The `tx` of `db.orm.transaction(async (tx) => …)`, whatever its schema. */
type DrizzleTransaction = Pick<PgTransaction<PgQueryResultHKT>, 'rollback' | 'setTransaction'>;

/** What functions of this package take first: a pool, a transaction of `withTransaction`, or one of `db.orm.transaction`. */
export type AnyDatabase<S extends Schema = Schema> = Database<S> | DrizzleTransaction;

/** Of a Drizzle transaction, the transaction that it runs in; a pool or transaction is returned as it is. */
export function databaseOf<S extends Schema>(given: AnyDatabase<S>): Database<S> {
  if (given instanceof Database) return given;
  const client = transactionClients.get(given);
  if (client) return new Transaction(client.sql, client.database as Database<S>);
  throw new ValidationError(
    'The database is not one of createDatabasePool or withTransaction, nor a transaction of its orm. ' +
      'A Drizzle client of your own cannot be passed.',
  );
}
