// Typed Drizzle on a postgres.js client, without changing that client.
import {
  Column,
  createTableRelationsHelpers,
  DefaultLogger,
  type ExtractTablesWithRelations,
  extractTablesRelationalConfig,
  is,
  type Logger,
  type RelationalSchemaConfig,
  SQL,
  type TablesRelationalConfig,
} from 'drizzle-orm';
import { PgCustomColumn, type PgDialect, type PgTransactionConfig } from 'drizzle-orm/pg-core';
import { PostgresJsDatabase, PostgresJsSession, PostgresJsTransaction } from 'drizzle-orm/postgres-js';
import type postgres from 'postgres';
import { parseArray } from './array-types.ts';
import { unknownType } from './parameters.ts';
import { RelationalDialect } from './relational-dialect.ts';

export type Schema = Record<string, unknown>;

/** The postgres.js tag of a pool or of a transaction, without custom types. */
export type SqlTag = postgres.ISql<NoCustomTypes>;
type NoCustomTypes = postgres.Sql extends postgres.Sql<infer Types> ? Types : never;

/** Options that Drizzle's `drizzle()` also has. */
export interface DrizzleOptions {
  /** Receives every query of `orm` with its parameters; `true` prints them. */
  logger?: boolean | Logger;
  /** How to derive a column name from its key, for columns without an explicit name. */
  casing?: 'snake_case' | 'camelCase';
}

/** Drizzle's view of a schema, computed once per pool. */
export interface DrizzleSchema<S extends Schema> {
  readonly dialect: PgDialect;
  readonly logger: Logger | undefined;
  readonly relational: RelationalSchemaConfig<ExtractTablesWithRelations<S>> & { fullSchema: S };
}

export function relationalSchema<S extends Schema>(
  schema: S,
  { logger, casing }: DrizzleOptions,
): DrizzleSchema<S> {
  const { tables, tableNamesMap } = extractTablesRelationalConfig(schema, createTableRelationsHelpers);
  return {
    dialect: new RelationalDialect(casing && { casing }),
    logger: logger === true ? new DefaultLogger() : logger || undefined,
    relational: {
      fullSchema: schema,
      schema: tables as ExtractTablesWithRelations<S>,
      tableNamesMap,
    },
  };
}

/** For each Drizzle transaction: its postgres.js transaction, and the database on which it began. */
export const transactionClients = new WeakMap<object, { sql: postgres.TransactionSql; database: object }>();

/**
 * Creates Drizzle on a façade of the client. drizzle(client) would replace parsers and serializers of the client, and
 * then a Date in a tagged query would throw. Drizzle encodes values to text itself; the façade sends them unchanged.
 */
export function createOrm<S extends Schema>(
  sql: SqlTag,
  schema: DrizzleSchema<S>,
  database: object,
): PostgresJsDatabase<S> {
  const session = new Session(sql, { ...schema, database } as never);
  return new PostgresJsDatabase(schema.dialect, session as never, schema.relational as never);
}

type AnySession = PostgresJsSession<postgres.Sql, Schema, TablesRelationalConfig>;
type AnyTransaction = PostgresJsTransaction<Schema, TablesRelationalConfig>;
type Fields = NonNullable<Parameters<AnySession['prepareQuery']>[1]>;
type Context = DrizzleSchema<Schema> & { database: object };

/** Gives each query a façade that knows the fields of its rows, also in transactions. */
class Session extends PostgresJsSession<postgres.Sql, Schema, TablesRelationalConfig> {
  readonly #sql: SqlTag;
  readonly #context: Context;

  constructor(sql: SqlTag, context: Context) {
    const { dialect, relational, logger } = context;
    super(drizzleFacade(sql) as postgres.Sql, dialect, relational, logger ? { logger } : {});
    this.#sql = sql;
    this.#context = context;
  }

  override prepareQuery: AnySession['prepareQuery'] = (query, fields, ...rest) => {
    const { client } = this;
    // Drizzle's prepared query keeps the client that the session has when the query is created.
    if (fields) this.client = drizzleFacade(this.#sql, fields) as postgres.Sql;
    try {
      return super.prepareQuery(query, fields, ...rest);
    } finally {
      this.client = client;
    }
  };

  override transaction<Result>(
    work: (transaction: AnyTransaction) => Promise<Result>,
    config?: PgTransactionConfig,
  ): Promise<Result> {
    const { dialect, relational, database } = this.#context;
    const client = this.#sql as postgres.Sql | postgres.TransactionSql;
    const run = async (sql: postgres.TransactionSql) => {
      const transaction = new Transaction(dialect, new Session(sql, this.#context) as never, relational);
      transactionClients.set(transaction, { sql, database });
      if (config) await transaction.setTransaction(config);
      return await work(transaction);
    };
    return ('begin' in client ? client.begin(run) : client.savepoint(run)) as Promise<Result>;
  }
}

class Transaction extends PostgresJsTransaction<Schema, TablesRelationalConfig> {
  readonly #session: Session;

  constructor(...parts: ConstructorParameters<typeof PostgresJsTransaction<Schema, TablesRelationalConfig>>) {
    super(...parts);
    this.#session = parts[1] as unknown as Session;
  }

  override transaction<Result>(work: (transaction: AnyTransaction) => Promise<Result>): Promise<Result> {
    return this.#session.transaction(work);
  }
}

function drizzleFacade(sql: SqlTag, fields?: Fields): SqlTag {
  const unsafe = (text: string, parameters: unknown[] = [], options?: postgres.UnsafeQueryOptions) => {
    const raw = parameters.map((value) =>
      typeof value === 'string' ? sql.typed(value, unknownType) : value,
    );
    const query = sql.unsafe(text, raw as never[], options);
    return fields ? { values: async () => readRows(await query.raw(), fields) } : query;
  };
  return new Proxy(sql, {
    get: (target, property) => (property === 'unsafe' ? unsafe : Reflect.get(target, property)),
  });
}

/** OIDs of json, jsonb, date, timestamp and timestamptz: Drizzle columns decode their text. */
const readByColumns = new Set([114, 3802, 1082, 1114, 1184]);
/** OIDs of the arrays of these types. */
const arraysReadByColumns = new Set([199, 3807, 1182, 1115, 1185]);

interface ResultColumn {
  readonly type: number;
  readonly parser?: (text: string) => unknown;
}

/**
 * Passes JSON, dates and times to Drizzle's columns as text: postgres.js would drop microseconds, and JSON strings
 * would be parsed twice. Other values, and expressions without a column, are parsed by postgres.js.
 */
function readRows(
  rows: readonly (readonly (Uint8Array | null)[])[] & { columns?: unknown },
  fields: Fields,
): unknown[][] {
  const readers = ((rows.columns ?? []) as readonly ResultColumn[]).map(({ type, parser }, index) => {
    if (decodesText(fields[index]?.field)) {
      if (readByColumns.has(type)) return asText;
      if (arraysReadByColumns.has(type)) return (text: string) => parseArray(text, asText, ',');
    }
    return parser ?? asText;
  });
  return rows.map((row) =>
    row.map((value, index) => (value === null ? null : readers[index]?.(Buffer.from(value).toString()))),
  );
}

const asText = (text: string): string => text;

function decodesText(field: Fields[number]['field'] | undefined): boolean {
  const expression = is(field, SQL.Aliased) ? field.sql : field;
  const decoder = is(expression, SQL) ? (expression as unknown as { decoder: unknown }).decoder : expression;
  // A custom type expects the value that postgres.js has parsed.
  return is(decoder, Column) && !is(decoder, PgCustomColumn);
}
