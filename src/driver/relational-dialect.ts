// Makes columns in Drizzle's relational queries return the same values at every nesting depth.
// Nested rows arrive as JSON, where numbers lose precision and timestamps change their format. So these columns are
// selected as text, which their decoders read.
import { type Column, is, type SQL, sql } from 'drizzle-orm';
import {
  PgArray,
  PgBigInt53,
  PgBigInt64,
  PgBigSerial53,
  PgBigSerial64,
  type PgColumn,
  PgCustomColumn,
  PgDate,
  PgDateString,
  PgDialect,
  PgJson,
  PgJsonb,
  PgNumeric,
  PgNumericBigInt,
  PgNumericNumber,
  PgTimestamp,
  PgTimestampString,
} from 'drizzle-orm/pg-core';

const readFromText = [PgJson, PgJsonb, PgTimestamp, PgTimestampString, PgDate, PgDateString]
  .concat([PgNumeric, PgNumericNumber, PgNumericBigInt] as never)
  .concat([PgBigInt53, PgBigInt64, PgBigSerial53, PgBigSerial64] as never);

type Arguments = Parameters<PgDialect['buildRelationalQueryWithoutPK']>[0];
type Config = Exclude<Arguments['queryConfig'], true>;

export class RelationalDialect extends PgDialect {
  override buildRelationalQueryWithoutPK(
    parts: Arguments,
  ): ReturnType<PgDialect['buildRelationalQueryWithoutPK']> {
    const config: Config = parts.queryConfig === true ? {} : parts.queryConfig;
    const columns = selectedColumns(parts.tableConfig.columns, config.columns);
    if (!columns.some(([, column]) => typeAsText(column))) return super.buildRelationalQueryWithoutPK(parts);
    const asText = Object.fromEntries(columns.map(([property, column]) => [property, selectAsText(column)]));
    const { extras } = config;
    const built = super.buildRelationalQueryWithoutPK({
      ...parts,
      queryConfig: {
        ...config,
        columns: {},
        extras: (fields, operators) => ({
          ...asText,
          ...(typeof extras === 'function' ? extras(fields, operators) : extras),
        }),
      },
    });
    // Drizzle drops the decoder of an extra, so set the column again.
    const own = new Map(columns);
    const selection = built.selection.map((item) => ({
      ...item,
      field: (!item.isJson && own.get(item.tsKey)) || item.field,
    }));
    return { ...built, selection: selection as typeof built.selection };
  }
}

/** Applies Drizzle's rule: the columns set to true; if there are none, all but those set to false; for `{}`, none. */
function selectedColumns(
  all: Readonly<Record<string, Column>>,
  chosen: Readonly<Record<string, boolean | undefined>> | undefined,
): [string, PgColumn][] {
  const columns = Object.entries(all) as [string, PgColumn][];
  if (!chosen) return columns;
  const named = columns.filter(([property]) => chosen[property] !== undefined);
  const included = named.filter(([property]) => chosen[property]);
  if (named.length === 0 || included.length > 0) return included;
  return columns.filter((column) => !named.includes(column));
}

// A column selected as text gets another alias: with the column's name, an unqualified ORDER BY would sort by the text.
const selectAsText = (column: PgColumn): SQL.Aliased => {
  const type = typeAsText(column);
  return type ? sql`${column}::${sql.raw(type)}`.as(`${column.name}::text`) : sql`${column}`.as(column.name);
};

function typeAsText(column: Column): 'text' | 'text[]' | undefined {
  if (is(column, PgArray)) return typeAsText(column.baseColumn) && 'text[]';
  const isNumeric =
    is(column, PgCustomColumn) && /^(numeric|decimal|bigint|int8)\b/i.test(column.getSQLType());
  return isNumeric || readFromText.some((type) => is(column, type)) ? 'text' : undefined;
}
