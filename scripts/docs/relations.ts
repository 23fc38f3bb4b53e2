// Reads tables and views from Drizzle's schema objects, for docs/schema.md.
import { type Column, getTableColumns, is } from 'drizzle-orm';
import { getTableConfig, getViewConfig, isPgEnum, PgTable, PgView } from 'drizzle-orm/pg-core';
import { isCoreUserId } from '../../schema/columns.ts';

export interface RelationFacts {
  readonly name: string;
  readonly kind: 'table' | 'view';
  readonly columns: readonly ColumnFacts[];
}

export interface ColumnFacts {
  readonly name: string;
  /** As PostgreSQL writes it, except for the short name `timestamptz`. */
  readonly type: string;
  readonly notNull: boolean;
  readonly primaryKey: boolean;
  /** Unique by itself, not only together with other columns. */
  readonly unique: boolean;
  readonly reference?: { readonly table: string; readonly column: string; readonly onDelete: string };
  /** Refers to a user in atriz_core from another database. */
  readonly coreUser: boolean;
}

/** Reads the tables and views of a schema. They are sorted by their names in TypeScript. */
export function readRelations(schema: Record<string, unknown>): readonly RelationFacts[] {
  return Object.values(schema).flatMap((value): RelationFacts[] => {
    if (is(value, PgTable)) return [readTable(value)];
    if (is(value, PgView)) {
      const { name, selectedFields } = getViewConfig(value);
      const columns = Object.values(selectedFields) as Column[];
      return [{ name, kind: 'view', columns: columns.map(readColumn) }];
    }
    return [];
  });
}

/** Name of an enum → its values. */
export const readEnums = (schema: Record<string, unknown>): ReadonlyMap<string, readonly string[]> =>
  new Map(
    Object.values(schema).flatMap((value) => (isPgEnum(value) ? [[value.enumName, value.enumValues]] : [])),
  );

function readTable(table: PgTable): RelationFacts {
  const { name, foreignKeys, uniqueConstraints, indexes } = getTableConfig(table);
  const references = new Map(
    foreignKeys.flatMap((key) => {
      const { columns, foreignColumns, foreignTable } = key.reference();
      return columns.map((column, index) => [
        column.name,
        {
          table: getTableConfig(foreignTable).name,
          column: foreignColumns[index]?.name ?? '',
          onDelete: key.onDelete ?? 'no action',
        },
      ]);
    }),
  );
  const lists = [
    ...uniqueConstraints.map(({ columns }) => columns.map((column) => column.name)),
    // A partial unique index does not cover all rows.
    ...indexes
      .filter(({ config }) => config.unique && !config.where)
      .map(({ config }) => config.columns.map((column) => ('name' in column ? (column.name ?? '') : ''))),
  ];
  const unique = new Set(lists.flatMap((columns) => (columns.length === 1 ? columns : [])));
  return {
    name,
    kind: 'table',
    columns: Object.values(getTableColumns(table)).map((column) => {
      const reference = references.get(column.name);
      const facts = readColumn(column);
      return {
        ...facts,
        unique: facts.unique || unique.has(column.name),
        ...(reference && { reference }),
      };
    }),
  };
}

const readColumn = (column: Column): ColumnFacts => ({
  name: column.name,
  type: column.getSQLType().replace('timestamp with time zone', 'timestamptz'),
  notNull: column.notNull,
  primaryKey: column.primary,
  unique: column.isUnique,
  coreUser: isCoreUserId(column),
});
