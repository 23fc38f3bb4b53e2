// Connection pools: plain SQL, the `sql` tag and typed Drizzle share one postgres.js client.
import { databaseUrl, useUtc, withLibpqVariables } from './config.ts';
import {
  type DatabaseKey,
  type DatabaseTarget,
  databaseKeys,
  databases,
  definitionOf,
  isDatabaseKey,
  isDatabaseTarget,
  keyOf,
  type SchemaOf,
  sourcesOf,
  targetOf,
} from './databases.ts';
import { type DatabasePoolOptions, defaultMax, isProxied } from './driver/client-options.ts';
import { Connector } from './driver/connector.ts';
import { Database } from './driver/database.ts';
import { type DatabaseUrl, maskPassword, parseDatabaseUrl } from './driver/database-url.ts';
import { type DrizzleSchema, relationalSchema, type Schema } from './driver/orm.ts';
import { Client, type Sql } from './driver/reconnecting-client.ts';
import { Replicas } from './driver/replicas.ts';
import { ConfigurationError } from './errors.ts';
import { foreignSources } from './targets.ts';

export type { DatabasePoolOptions } from './driver/client-options.ts';
export { type AnyDatabase, Database, databaseOf, type QueryResult } from './driver/database.ts';

export interface PoolStats {
  /** Connections that run a query or a transaction. */
  readonly inUse: number;
  /** Maximum number of connections. */
  readonly max: number;
  /** Queries and transactions that wait for a connection. */
  readonly waiting: number;
}

/** A pool of connections to one database. */
export class Pool<S extends Schema = Schema> extends Database<S> {
  readonly sql: Sql;
  readonly name: string;
  readonly key: DatabaseKey | undefined;
  readonly target: DatabaseTarget | undefined;
  /** @internal */
  readonly foreignSources: readonly string[];
  /** @internal */
  readonly drizzleSchema: DrizzleSchema<S>;
  readonly #client: Client;
  readonly #options: DatabasePoolOptions;
  readonly #url: DatabaseUrl;
  readonly #primary: Pool<S> | undefined;

  /**
   * @internal
   * @param from a pool: the new pool uses its connections to the primary, and no replicas.
   */
  constructor(
    options: DatabasePoolOptions,
    url: DatabaseUrl,
    { target, foreignSources }: Pick<Database, 'target' | 'foreignSources'>,
    drizzleSchema: DrizzleSchema<S>,
    from?: Pool<S>,
  ) {
    super();
    this.#options = options;
    this.#url = url;
    this.key = target && keyOf(target);
    this.target = target;
    this.foreignSources = foreignSources;
    this.name = url.database;
    this.drizzleSchema = drizzleSchema;
    this.#client = from ? from.#client : new Client(new Connector(options, url));
    this.sql = from ? this.#client.primary : this.#client.sql;
    const replicas = from ? [] : replicaClients(options, url);
    if (replicas.length === 0) return;
    const clients = { primary: this.#client, reader: readerClient(options, url), replicas };
    this.#client.readFrom(new Replicas(clients, options.replicaMaxLagMs ?? 10_000));
    this.#primary = new Pool(options, url, this, drizzleSchema, this);
  }

  /**
   * This pool without its replicas, for reads that must be current. A read on a replica sees all earlier writes of this
   * pool, but may see writes of others up to `replicaMaxLagMs` milliseconds late.
   */
  get primary(): Pool<S> {
    return this.#primary ?? this;
  }

  /** The pool itself, so that functions such as `withTransaction` accept `db.pool` as well as `db`. */
  get pool(): this {
    return this;
  }

  get stats(): PoolStats {
    const { running } = this.#client;
    const max = this.#options.max ?? defaultMax;
    return { inUse: Math.min(running, max), max, waiting: Math.max(running - max, 0) };
  }

  /** @internal Whether connections lead to a transaction-pooling proxy. If so, nothing may rely on session state. */
  get isProxied(): boolean {
    return isProxied(this.#options, this.#url);
  }

  /**
   * @internal Creates a pool of one connection to the same database, for session locks. The connection is not closed
   * when it is idle or old.
   */
  dedicated(): Pool<S> {
    const options = { ...this.#options, max: 1, idleTimeoutMs: 0, maxLifetimeMs: 0, replicas: [] };
    return new Pool(options, this.#url, this, this.drizzleSchema);
  }

  /**
   * @internal Call it when a connection does not answer. Connections opened before `moment`, a time of
   * `performance.now()`, get no new queries. Running queries continue.
   */
  renew(moment: number): void {
    this.#client.renew(moment);
  }

  /** Waits up to 5 seconds for running queries, then closes every connection. */
  async close(): Promise<void> {
    await this.#client.close(5_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Creates the client for reads on the primary. Its sessions are read-only, so that a function that writes fails.
 * Undefined behind a proxy, which refuses default_transaction_read_only: there, call functions that write on `primary`.
 */
function readerClient(options: DatabasePoolOptions, url: DatabaseUrl): Client | undefined {
  if (isProxied(options, url)) return undefined;
  const parameters = new Map([...url.parameters, ['default_transaction_read_only', 'on']]);
  // With this setting every session is read-only, so no host would match `read-write`.
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

/** An application that may have a tracking database of its own. */
type Source = (typeof databases)['tracking']['sources'][number];

type Options = DatabasePoolOptions & {
  /** Registry key, which gives URL, schema and types. Default: inferred from the database name in the URL. */
  key?: DatabaseKey | undefined;
  /** @deprecated Use `key`. */
  database?: DatabaseKey | undefined;
  /** Only with the key `tracking`: the application that owns the locations. Its own URL variable is used, if set. */
  source?: Source | undefined;
  /** Drizzle tables and relations for `orm.query`, instead of the registry's. */
  schema?: Schema | undefined;
};
type WithKey<Key> = (
  | { key: Key; database?: undefined }
  | {
      /** @deprecated Use `key`. */
      database: Key;
      key?: undefined;
    }
) & {
  /**
   * Only with the key `tracking`: the application that owns the locations. The pool uses the application's own database
   * if `<SOURCE>_TRACKING_DATABASE_URL` is set, otherwise the shared one. It refuses locations of other applications.
   */
  source?: Source | undefined;
};
/** For a union of keys, the union of their pool types. */
export type PoolOf<Key> = Key extends DatabaseKey ? Pool<SchemaOf<Key>> : never;

/**
 * Creates a pool; the first query opens the first connection. Sessions and the process use UTC.
 * @throws ConfigurationError if the key, the source, the URL or another option is wrong, or no setting has the URL.
 */
export function createDatabasePool<Key extends DatabaseKey>(
  options: DatabasePoolOptions & WithKey<Key> & { schema?: undefined },
): PoolOf<Key>;
export function createDatabasePool<S extends Schema = Record<string, never>>(
  options: Omit<Options, 'schema'> & { schema?: S },
): Pool<S>;
export function createDatabasePool(options: Options): Pool {
  useUtc();
  const { connectionString } = options;
  const given = options.key ?? options.database;
  if (given !== undefined && !isDatabaseKey(given)) {
    throw new ConfigurationError(`key is "${given}": use one of ${databaseKeys.join(', ')}.`);
  }
  if (given === undefined && options.source !== undefined) {
    throw new ConfigurationError(`source is "${options.source}" without a key: pass key: 'tracking' too.`);
  }
  const named = given && requireTarget(given, options.source);
  const { url, origin } = connectionString
    ? { url: connectionString, origin: 'connectionString' }
    : databaseUrl(named ?? missingUrl());
  const parsed = withLibpqVariables(parseDatabaseUrl(url, origin));
  const target = named ?? databaseKeys.find((candidate) => databases[candidate].database === parsed.database);
  const schema = options.schema ?? (target ? definitionOf(target).schema : {});
  // With a connectionString, the environment does not say which applications' rows belong in the database.
  const isChosen = target !== undefined && (!connectionString || options.source !== undefined);
  const identity = { target, foreignSources: isChosen ? foreignSources(target) : [] };
  return new Pool(options, parsed, identity, relationalSchema(schema, options));
}

function requireTarget(key: DatabaseKey, source: string | undefined): DatabaseTarget {
  const target = targetOf(key, source);
  if (isDatabaseTarget(target)) return target;
  const sources = sourcesOf(key);
  throw new ConfigurationError(
    sources.length === 0
      ? `source is "${source}": ${key} has one database for all applications, so leave it out.`
      : `source is "${source}": use one of ${sources.join(', ')}.`,
  );
}

function missingUrl(): never {
  throw new ConfigurationError(
    'createDatabasePool got no connectionString (is the environment variable that holds it set?): ' +
      "pass postgresql://user:password@host:5432/database, or { key: 'core' }.",
  );
}
