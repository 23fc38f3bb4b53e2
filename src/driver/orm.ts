// Typed Drizzle over a postgres.js client that stays as it was.
import {
  Column,
  createTableRelationsHelpers,
  type ExtractTablesWithRelations,
  extractTablesRelationalConfig,
  is,
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

/** Drizzle's view of a schema, computed once per pool. */
export interface DrizzleSchema<S extends Schema> {
  readonly dialect: PgDialect;
  readonly relational: RelationalSchemaConfig<ExtractTablesWithRelations<S>> & { fullSchema: S };
}

export function relationalSchema<S extends Schema>(schema: S): DrizzleSchema<S> {
  const { tables, tableNamesMap } = extractTablesRelationalConfig(schema, createTableRelationsHelpers);
  return {
    dialect: new RelationalDialect(),
    relational: {
      fullSchema: schema,
      schema: tables as ExtractTablesWithRelations<S>,
      tableNamesMap,
    },
  };
}

// drizzle(client) would replace the client's parsers, and a Date in a tagged query would then
// throw. Drizzle encodes to text itself, so it gets a façade that passes its strings through as
// they are and leaves the client alone.
export function createOrm<S extends Schema>(
  sql: SqlTag,
  { dialect, relational }: DrizzleSchema<S>,
): PostgresJsDatabase<S> {
  const session = new Session(drizzleFacade(sql) as postgres.Sql, dialect, relational as never);
  return new PostgresJsDatabase(dialect, session as never, relational as never);
}

type AnySession = PostgresJsSession<postgres.Sql, Schema, TablesRelationalConfig>;
type AnyTransaction = PostgresJsTransaction<Schema, TablesRelationalConfig>;
type Fields = NonNullable<Parameters<AnySession['prepareQuery']>[1]>;

/** Tells the façade of each query which fields its rows become, in transactions too. */
class Session extends PostgresJsSession<postgres.Sql, Schema, TablesRelationalConfig> {
  readonly #relational: RelationalSchemaConfig<TablesRelationalConfig>;
  readonly #dialect: PgDialect;

  constructor(
    client: postgres.Sql,
    dialect: PgDialect,
    relational: RelationalSchemaConfig<TablesRelationalConfig>,
  ) {
    super(client, dialect, relational);
    this.#dialect = dialect;
    this.#relational = relational;
  }

  override prepareQuery: AnySession['prepareQuery'] = (query, fields, ...rest) => {
    const { client } = this;
    // Drizzle's prepared query keeps the client that its session has at this moment.
    if (fields) this.client = drizzleFacade(client, fields) as postgres.Sql;
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
    return this.client.begin(async (client) => {
      const session = new Session(client as unknown as postgres.Sql, this.#dialect, this.#relational);
      const transaction = new Transaction(this.#dialect, session as never, this.#relational);
      if (config) await transaction.setTransaction(config);
      return await work(transaction);
    }) as Promise<Result>;
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

type Scope = (work: (sql: object) => Promise<unknown>) => Promise<unknown>;

function drizzleFacade(sql: object, fields?: Fields): object {
  return new Proxy(sql, {
    get: (target, property, receiver) => {
      const value = Reflect.get(target, property, receiver);
      if (property === 'unsafe') {
        const client = target as SqlTag;
        return (text: string, parameters: unknown[] = [], options?: postgres.UnsafeQueryOptions) => {
          const raw = parameters.map((value) =>
            typeof value === 'string' ? client.typed(value, unknownType) : value,
          );
          const query = client.unsafe(text, raw as never[], options);
          return fields ? { values: async () => readRows(await query.raw(), fields) } : query;
        };
      }
      if (property === 'begin' || property === 'savepoint') {
        // A transaction's client has no begin: what Drizzle opens inside of one is a savepoint.
        const open = (value ?? Reflect.get(target, 'savepoint', receiver)) as Scope;
        return (work: Parameters<Scope>[0]) => open.call(target, (inner) => work(drizzleFacade(inner)));
      }
      return value;
    },
  });
}

/** json, jsonb, date, timestamp and timestamptz, whose text a column of Drizzle reads by itself. */
const readByColumns = new Set([114, 3802, 1082, 1114, 1184]);
/** Their arrays. */
const arraysReadByColumns = new Set([199, 3807, 1182, 1115, 1185]);

interface ResultColumn {
  readonly type: number;
  readonly parser?: (text: string) => unknown;
}

/**
 * What a column decodes it gets as text: postgres.js would cut microseconds off, and a JSON string that it
 * has parsed would be parsed once more. Expressions without a column are read as everywhere else.
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
  // A custom type is written for what postgres.js hands over.
  return is(decoder, Column) && !is(decoder, PgCustomColumn);
}
