// Typed Drizzle over a postgres.js client that stays as it was.
import {
  createTableRelationsHelpers,
  type ExtractTablesWithRelations,
  extractTablesRelationalConfig,
  type RelationalSchemaConfig,
} from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { PostgresJsDatabase, PostgresJsSession } from 'drizzle-orm/postgres-js';
import type postgres from 'postgres';
import { unknownType } from './parameters.ts';

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
    dialect: new PgDialect(),
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
  const session = new PostgresJsSession(drizzleFacade(sql) as postgres.Sql, dialect, relational);
  return new PostgresJsDatabase(dialect, session as never, relational as never);
}

type Scope = (work: (sql: object) => Promise<unknown>) => Promise<unknown>;

function drizzleFacade(sql: object): object {
  return new Proxy(sql, {
    get: (target, property, receiver) => {
      const value = Reflect.get(target, property, receiver);
      if (property === 'unsafe') {
        const client = target as SqlTag;
        return (text: string, parameters: unknown[] = [], options?: postgres.UnsafeQueryOptions) => {
          const raw = parameters.map((value) =>
            typeof value === 'string' ? client.typed(value, unknownType) : value,
          );
          return client.unsafe(text, raw as never[], options);
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
