// Runs queries: the common base of pools and transactions.
import { Stream } from 'node:stream';
import type { PgQueryResultHKT, PgTransaction } from 'drizzle-orm/pg-core';
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import type postgres from 'postgres';
import type { DatabaseKey, DatabaseTarget } from '../databases.ts';
import { ValidationError } from '../errors.ts';
import type { CopyStream } from './copy-stream.ts';
import { createOrm, type DrizzleSchema, type Schema, type SqlTag, transactionClients } from './orm.ts';
import { encodeParameter, unknownType } from './parameters.ts';
import { convertRows } from './query.ts';

export interface QueryResult<Row> {
  rows: Row[];
  /** Rows returned, or changed by an INSERT, UPDATE, DELETE, MERGE or COPY. */
  rowCount: number;
}

/** The common part of a pool and a transaction. */
export abstract class Database<S extends Schema = Schema> {
  /** The postgres.js tag, for hot paths: uses prepared statements, and parses dates and JSON. */
  abstract readonly sql: SqlTag;
  /** Name of the database, for messages. */
  abstract readonly name: string;
  /** Registry key, if the pool was created with a key or the database has a registered name. */
  abstract readonly key: DatabaseKey | undefined;
  /** The key; for an application's own database, key and application, as in `tracking:mextrack`. */
  abstract readonly target: DatabaseTarget | undefined;
  /** @internal Applications whose rows belong in another database. */
  abstract readonly foreignSources: readonly string[];
  /** The same database without its replicas, for reads that must be current. */
  abstract readonly primary: Database<S>;
  /** @internal */
  abstract readonly drizzleSchema: DrizzleSchema<S>;
  #orm: PostgresJsDatabase<S> | undefined;

  /** Typed Drizzle on the same connections. Created on first use, because many transactions do not need it. */
  get orm(): PostgresJsDatabase<S> {
    this.#orm ??= createOrm(this.sql, this.drizzleSchema, this);
    return this.#orm;
  }

  /**
   * Runs one statement with `$1`-style parameters. Dates, arrays, objects and `undefined` are encoded as in
   * node-postgres. Without parameters `text` may hold several statements; the rows of the last one are returned.
   * @throws ConnectionError; PostgreSQL's error with its SQLSTATE as `code`; ValidationError for a COPY FROM STDIN or
   * TO STDOUT.
   */
  async query<Row extends object = Record<string, unknown>>(
    text: string,
    parameters: readonly unknown[] = [],
  ): Promise<QueryResult<Row>> {
    const results = await this.#send(text, parameters);
    if (results instanceof Stream) {
      (results as Stream as CopyStream).on('error', () => undefined).destroy();
      throw new ValidationError(
        'query() does not return the stream of a COPY: use sql`…`.readable() or .writable().',
      );
    }
    const last = Array.isArray(results[0]) ? results.at(-1) : results;
    const rows = last as unknown as postgres.RowList<Row[]>;
    return { rows: [...rows], rowCount: rows.count ?? rows.length };
  }

  /** @internal Runs one statement and converts each row on arrival, while the server still reads later rows. */
  async read<Raw extends object, Row>(
    text: string,
    parameters: readonly unknown[],
    convert: (raw: Raw) => Row,
  ): Promise<Row[]> {
    const query = this.#send(text, parameters);
    convertRows(query, convert);
    return [...((await query) as Iterable<unknown>)] as Row[];
  }

  #send(text: string, parameters: readonly unknown[]) {
    const encoded = parameters.map((value) => this.sql.typed(encodeParameter(value) as string, unknownType));
    return this.sql.unsafe(text, encoded, { prepare: encoded.length > 0 });
  }
}

/** An open transaction: `.query`, `.sql` and typed `.orm` on one connection. */
export class Transaction<S extends Schema = Schema> extends Database<S> {
  readonly sql: postgres.TransactionSql;
  readonly name: string;
  readonly key: DatabaseKey | undefined;
  readonly target: DatabaseTarget | undefined;
  /** @internal */
  readonly foreignSources: readonly string[];
  /** @internal */
  readonly drizzleSchema: DrizzleSchema<S>;

  /** @internal */
  constructor(sql: postgres.TransactionSql, database: Database<S>) {
    super();
    this.sql = sql;
    this.name = database.name;
    this.key = database.key;
    this.target = database.target;
    this.foreignSources = database.foreignSources;
    this.drizzleSchema = database.drizzleSchema;
  }

  /** Itself: transactions always run on the primary. */
  get primary(): this {
    return this;
  }
}

/** The `tx` of `db.orm.transaction(async (tx) => …)`, whatever its schema. */
type DrizzleTransaction = Pick<PgTransaction<PgQueryResultHKT>, 'rollback' | 'setTransaction'>;

/** First argument of this package's functions: a pool, or a transaction of `withTransaction` or of `orm`. */
export type AnyDatabase<S extends Schema = Schema> = Database<S> | DrizzleTransaction;

/**
 * Returns a pool or transaction unchanged; for a Drizzle transaction, a `Transaction` on its connection.
 * @throws ValidationError for any other object.
 */
export function databaseOf<S extends Schema>(given: AnyDatabase<S>): Database<S> {
  if (given instanceof Database) return given;
  const client = transactionClients.get(given);
  if (client) return new Transaction(client.sql, client.database as Database<S>);
  throw new ValidationError(
    'The database is not one of createDatabasePool or withTransaction, nor a transaction of its orm. ' +
      'A Drizzle client of your own cannot be passed.',
  );
}
