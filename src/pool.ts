// Connection pools: one postgres.js client that serves plain SQL, the tag and typed Drizzle alike.
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import type postgres from 'postgres';
import { databaseUrl, useUtc, withLibpqVariables } from './config.ts';
import { type DatabaseKey, databaseKeys, definitionOf, type SchemaOf } from './databases.ts';
import { Client, type Sql } from './driver/client.ts';
import { type DatabasePoolOptions, defaultMax, isProxied } from './driver/client-options.ts';
import { Connector } from './driver/connector.ts';
import { type DatabaseUrl, maskPassword, parseDatabaseUrl } from './driver/database-url.ts';
import { createOrm, type DrizzleSchema, relationalSchema, type Schema, type SqlTag } from './driver/orm.ts';
import { encodeParameter, unknownType } from './driver/parameters.ts';
import { Replicas } from './driver/replicas.ts';
import { ConfigurationError } from './errors.ts';

export type { DatabasePoolOptions } from './driver/client-options.ts';

export interface PoolUse {
  /** Connections that run a query or a transaction. */
  readonly inUse: number;
  /** Most connections at once. */
  readonly max: number;
  /** Queries and transactions beyond that number, which take turns. */
  readonly waiting: number;
}

export interface QueryResult<Row> {
  rows: Row[];
  /** Rows returned, or touched by an INSERT, UPDATE, DELETE, MERGE or COPY. */
  rowCount: number;
}

/** What runs queries: a pool or a transaction. Functions of this package take it first. */
export abstract class Database<S extends Schema = Schema> {
  /** The postgres.js tag: server-side prepared statements, dates and JSON parsed. For hot paths. */
  abstract readonly sql: SqlTag;
  /** Name of the database, for messages. */
  abstract readonly name: string;
  /** Its key in the registry, where the pool was made with one or the database has its registered name. */
  abstract readonly key: DatabaseKey | undefined;
  /** The same database without its replicas: for reads that must not be late. */
  abstract readonly primary: Database<S>;
  protected abstract readonly drizzleSchema: DrizzleSchema<S>;
  #orm: PostgresJsDatabase<S> | undefined;

  /** Typed Drizzle on the same connections. Built at its first use: many transactions need none. */
  get orm(): PostgresJsDatabase<S> {
    this.#orm ??= createOrm(this.sql, this.drizzleSchema);
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

/** A pool of connections to one database. */
export class Pool<S extends Schema = Schema> extends Database<S> {
  readonly sql: Sql;
  readonly name: string;
  readonly key: DatabaseKey | undefined;
  readonly drizzleSchema: DrizzleSchema<S>;
  readonly #client: Client;
  readonly #options: DatabasePoolOptions;
  readonly #url: DatabaseUrl;
  readonly #schema: S;
  readonly #primary: Pool<S> | undefined;

  /** @param from the pool whose connections this one uses, without its replicas. */
  constructor(options: DatabasePoolOptions, url: DatabaseUrl, schema: S, key?: DatabaseKey, from?: Pool<S>) {
    super();
    this.key = key ?? databaseKeys.find((candidate) => definitionOf(candidate).database === url.database);
    this.#options = options;
    this.#url = url;
    this.#schema = schema;
    this.name = url.database;
    this.drizzleSchema = from?.drizzleSchema ?? relationalSchema(schema);
    this.#client = from ? from.#client : new Client(new Connector(options, url));
    this.sql = from ? this.#client.primary : this.#client.sql;
    const replicas = from ? [] : replicaClients(options, url);
    if (replicas.length === 0) return;
    const clients = { primary: this.#client, reader: readerClient(options, url), replicas };
    this.#client.readFrom(new Replicas(clients, options.replicaMaxLagMs ?? 10_000));
    this.#primary = new Pool(options, url, schema, key, this);
  }

  /**
   * The same pool without its replicas. A read outside of a transaction sees what this pool has written
   * before it, wherever it goes; what others wrote, a replica shows up to `replicaMaxLagMs` late.
   */
  get primary(): Pool<S> {
    return this.#primary ?? this;
  }

  /** What `withTransaction`, the TimescaleDB functions and seeds take. The pool itself. */
  get pool(): this {
    return this;
  }

  /** How much of the pool is in use at this moment. */
  get use(): PoolUse {
    const { running } = this.#client;
    const max = this.#options.max ?? defaultMax;
    return { inUse: Math.min(running, max), max, waiting: Math.max(running - max, 0) };
  }

  /** Whether a transaction-pooling proxy stands between, so that nothing may rely on a session. */
  get isProxied(): boolean {
    return isProxied(this.#options, this.#url);
  }

  /** One connection to the same database that stays open until it is closed, for session locks. */
  dedicated(): Pool<S> {
    return new Pool(
      { ...this.#options, max: 1, idleTimeoutMs: 0, maxLifetimeMs: 0, replicas: [] },
      this.#url,
      this.#schema,
      this.key,
    );
  }

  /**
   * Connections that were opened before `moment` (of `performance.now()`) get no new queries: one of them is
   * silent. What runs on them may go on.
   */
  renew(moment: number): void {
    this.#client.renew(moment);
  }

  /** Runs `work` between BEGIN and COMMIT on one connection. Apps call `withTransaction`. */
  async begin<Result>(
    characteristics: string,
    work: (sql: postgres.TransactionSql) => Promise<Result>,
  ): Promise<Result> {
    return (await this.sql.begin(characteristics, work)) as Result;
  }

  /** Waits up to 5 seconds for running queries, then closes every connection. */
  async close(): Promise<void> {
    await this.#client.close(5_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A proxy refuses the setting: there, a function that writes has to be called in a transaction or by `primary`. */
function readerClient(options: DatabasePoolOptions, url: DatabaseUrl): Client | undefined {
  if (isProxied(options, url)) return undefined;
  const parameters = new Map([...url.parameters, ['default_transaction_read_only', 'on']]);
  // No host offers to write to a session of this kind.
  const target = url.target === 'read-write' ? 'primary' : url.target;
  return new Client(new Connector(options, { ...url, target, parameters }));
}

function replicaClients(options: DatabasePoolOptions, primary: DatabaseUrl): Client[] {
  const { replicas = [], replicaMaxLagMs = 1 } = options;
  if (!(replicaMaxLagMs > 0)) {
    throw new ConfigurationError(`replicaMaxLagMs is ${replicaMaxLagMs}: use a number above 0.`);
  }
  return replicas.map((text, index) => {
    const url = withLibpqVariables(parseDatabaseUrl(text, `replicas[${index}]`));
    if (url.database !== primary.database) {
      throw new ConfigurationError(
        `replicas[${index}] is "${maskPassword(text)}": it should name ${primary.database}, as the primary's URL does.`,
      );
    }
    return new Client(new Connector(options, url));
  });
}

/**
 * Creates a pool; the first query opens the first connection. Sessions and the process use UTC.
 * @throws ConfigurationError when the URL or the setting that should hold it is wrong or missing.
 */
export function createDatabasePool<Key extends DatabaseKey>(
  options: DatabasePoolOptions & { database: Key; schema?: undefined },
): Pool<SchemaOf<Key>>;
export function createDatabasePool<S extends Schema = Record<string, never>>(
  options: DatabasePoolOptions & { database?: DatabaseKey; schema?: S },
): Pool<S>;
export function createDatabasePool(
  options: DatabasePoolOptions & { database?: DatabaseKey | undefined; schema?: Schema | undefined },
): Pool<Schema> {
  useUtc();
  const { database, connectionString } = options;
  const schema = options.schema ?? (database ? definitionOf(database).schema : {});
  if (connectionString) {
    const parsed = parseDatabaseUrl(connectionString, 'connectionString');
    return new Pool(options, withLibpqVariables(parsed), schema, database);
  }
  if (database) {
    const { url, origin } = databaseUrl(database);
    return new Pool(options, withLibpqVariables(parseDatabaseUrl(url, origin)), schema, database);
  }
  throw new ConfigurationError(
    'createDatabasePool got no connectionString (is the environment variable that holds it set?): ' +
      "pass postgresql://user:password@host:5432/database, or { database: 'core' }.",
  );
}
