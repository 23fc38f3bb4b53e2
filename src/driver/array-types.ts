// Loads the array types of a database, which postgres.js needs to read and write arrays.
// postgres.js loads them on every new connection, in a query whose failure is not caught: a server restart at that
// moment crashes the process. It also does not export its array parser.
import type postgres from 'postgres';
import { encodeParameter } from './parameters.ts';

export interface ArrayType {
  element: number;
  array: number;
  delimiter: string;
}

// The first query on every database. All names and operators are qualified, so that the search_path has no effect.
export const arrayTypesSql = `SELECT typelem::pg_catalog.int8::pg_catalog.float8 AS element,
    oid::pg_catalog.int8::pg_catalog.float8 AS array, typdelim AS delimiter
  FROM pg_catalog.pg_type WHERE typcategory OPERATOR(pg_catalog.=) 'A' AND typelem OPERATOR(pg_catalog.<>) 0`;

/** Registers the types in a client. Existing parsers are kept. */
export function learnArrayTypes(sql: postgres.Sql, types: readonly ArrayType[]): void {
  const { parsers, serializers, shared } = sql.options as unknown as {
    parsers: Record<number, (text: string) => unknown>;
    serializers: Record<number, (value: unknown) => unknown>;
    shared: { typeArrayMap: Record<number, number> };
  };
  for (const { element, array, delimiter } of types) {
    shared.typeArrayMap[element] = array;
    const parse = parsers[element] ?? ((text: string) => text);
    parsers[array] ??= (text) => parseArray(text, parse, delimiter);
    serializers[array] ??= (value) => (Array.isArray(value) ? encodeParameter(value) : value);
  }
}

/** Parses an array literal such as `{1,NULL,"a \"b\""}`. It may be nested, and may have bounds before the brace. */
export function parseArray(text: string, parse: (element: string) => unknown, delimiter: string): unknown[] {
  // A backslash escapes the next character; an element without quotes ends at a delimiter or a brace.
  const token = new RegExp(`"((?:[^"\\\\]|\\\\[^])*)"|[{}]|[^{}"${delimiter}]+`, 'g');
  token.lastIndex = text.indexOf('{') + 1;
  return readList();

  function readList(): unknown[] {
    const values: unknown[] = [];
    for (;;) {
      const [word, quoted] = token.exec(text) ?? ['}'];
      if (word === '}') return values;
      if (word === '{') values.push(readList());
      else if (quoted !== undefined) values.push(parse(quoted.replace(/\\(.)/gs, '$1')));
      else values.push(word === 'NULL' ? null : parse(word));
    }
  }
}
