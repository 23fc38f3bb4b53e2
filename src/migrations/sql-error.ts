// Shows where in a migration PostgreSQL found its error: file, line, caret.
import type { DatabaseTarget } from '../databases.ts';
import { MigrationError } from '../errors.ts';
import type { SqlFile, Statement } from './journal.ts';
import { firstCommand } from './skip-comments.ts';
import { asSent, isRefusedInside } from './transaction-guard.ts';

interface PostgresErrorFields {
  code: string;
  /** Undefined if the error does not come from the server. */
  severity?: string;
  message: string;
  /** Character position in the statement, from 1. */
  position?: string;
  /** Character position in `internal_query`, from 1, if the error is in a query that the statement ran. */
  internal_position?: string;
  internal_query?: string;
  constraint_name?: string;
  table_name?: string;
  column_name?: string;
  detail?: string;
  hint?: string;
}

/** @param subject `afterwards` says what the failure left behind; it follows the words "Migration … failed and". */
export function describeSqlError(
  error: unknown,
  file: SqlFile,
  statement: Statement,
  subject: { key: DatabaseTarget; tag: string; afterwards: string; advice?: string | undefined },
): MigrationError {
  const { message, detail, hint } = isRefusedInside(error)
    ? { message: refusedInside, detail: (error as Error).message, hint: undefined }
    : (error as PostgresErrorFields);
  const { line, column, text } = locate(file.sql, statement.offset + placeOf(error, statement.text));
  const shown = excerpt(text, column);
  const gutter = String(line).length;
  const lines = [
    `Migration ${subject.tag} of ${subject.key} failed and ${subject.afterwards}: ${shorten(message)}`,
    `  at ${file.path}:${line}:${column}`,
    `  ${line} | ${shown.text}`,
    `  ${' '.repeat(gutter)} | ${shown.before.replace(/[^\t]/g, ' ')}^`,
    detail && `  detail: ${shorten(detail)}`,
    hint && `  hint: ${shorten(hint)}`,
    isDuplicate(error) &&
      `  if it was made by drizzle-kit push, or by hand, as the file says: npm run migrate -- mark ${subject.key} ${subject.tag}`,
    subject.advice && `  ${subject.advice}`,
  ];
  return new MigrationError(lines.filter(Boolean).join('\n'), {
    database: subject.key,
    migration: subject.tag,
    line,
    cause: error,
  });
}

/** duplicate_column, duplicate_object, duplicate_table, duplicate_function, duplicate_schema */
const isDuplicate = (error: unknown): boolean =>
  ['42701', '42710', '42P07', '42723', '42P06'].includes((error as PostgresErrorFields).code);

/** Describes a failure for the history, without those messages of PostgreSQL that may quote row values. */
export function withoutValues(error: unknown, file: Pick<SqlFile, 'path' | 'sql'>): string {
  const { message, line, cause } = error as MigrationError;
  const server = (cause ?? error) as PostgresErrorFields;
  // An error that does not come from the server, such as a lost lock, quotes no row values.
  if (server.severity === undefined) return message;
  const names = [
    server.constraint_name && `constraint ${server.constraint_name}`,
    server.table_name && `table ${server.table_name}`,
    server.column_name && `column ${server.column_name}`,
  ];
  const place = `SQLSTATE ${server.code} at ${file.path}${line === undefined ? '' : `:${line}`}`;
  return [place, ...names, isAboutText(server, file.sql) && server.message].filter(Boolean).join(', ');
}

// Class 42 (syntax error or access rule violation) at a position in the file: the message quotes only the file.
const isAboutText = ({ code, position, internal_query: query }: PostgresErrorFields, sql: string) =>
  code.startsWith('42') && (position !== undefined || (query !== undefined && sql.includes(query.slice(1))));

const refusedInside =
  'BEGIN, COMMIT, ROLLBACK and SAVEPOINT have no place in a migration, which is one transaction already ' +
  '(or none, with "-- transaction: none" in its first line), nor has COPY with STDIN or STDOUT: use INSERT';

/** Offset of the error in the text of a statement, in UTF-16 code units. */
function placeOf(error: unknown, text: string): number {
  const { position, internal_position, internal_query } = error as PostgresErrorFields;
  if (position) return codeUnits(text, Number(position) - 1);
  if (internal_position && internal_query) {
    // `internal_query` is all of `sent`, or a function body in it. If that body occurs twice, the place is unknown.
    const sent = asSent(text);
    const place = sent.indexOf(internal_query);
    if (place >= 0 && place === sent.lastIndexOf(internal_query)) {
      const found = place + codeUnits(internal_query, Number(internal_position) - 1);
      return Math.max(found - (sent.length - text.length), 0);
    }
  }
  return firstCommand(text);
}

/** Converts PostgreSQL's count of characters to JavaScript's count of UTF-16 code units. */
function codeUnits(text: string, characters: number): number {
  let units = 0;
  let left = characters;
  for (const character of text) {
    if (left <= 0) break;
    units += character.length;
    left -= 1;
  }
  return units;
}

// PostgreSQL quotes an unterminated comment completely, which may be very long.
const shorten = (text: string) => (text.length > 500 ? `${text.slice(0, 500)}…` : text);

function excerpt(text: string, column: number): { text: string; before: string } {
  const from = text.length > 200 ? Math.max(column - 100, 0) : 0;
  return { text: text.slice(from, from + 200), before: text.slice(from, column - 1) };
}

function locate(sql: string, offset: number): { line: number; column: number; text: string } {
  const before = sql.slice(0, offset);
  const line = before.split('\n').length;
  const text = (sql.split('\n')[line - 1] ?? '').replace(/\r$/, '');
  return { line, column: offset - before.lastIndexOf('\n'), text };
}
