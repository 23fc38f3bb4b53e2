// Shows where in a migration PostgreSQL found its error: file, line, caret.
import type { DatabaseKey } from '../databases.ts';
import { MigrationError } from '../errors.ts';
import type { SqlFile, Statement } from './journal.ts';

interface PostgresErrorFields {
  message: string;
  /** Characters from the start of the statement, from 1. */
  position?: string;
  detail?: string;
  hint?: string;
}

/** @param afterwards what is left behind, as the end of the first sentence. */
export function describeSqlError(
  error: unknown,
  file: SqlFile,
  statement: Statement,
  subject: { key: DatabaseKey; tag: string; afterwards: string; advice?: string | undefined },
): MigrationError {
  const { message, position, detail, hint } = error as PostgresErrorFields;
  const start =
    statement.offset +
    (position ? codeUnits(statement.text, Number(position) - 1) : firstCommand(statement.text));
  const { line, column, text } = locate(file.sql, start);
  const gutter = String(line).length;
  const lines = [
    `Migration ${subject.tag} of ${subject.key} failed and ${subject.afterwards}: ${message}`,
    `  at ${file.path}:${line}:${column}`,
    `  ${line} | ${text}`,
    `  ${' '.repeat(gutter)} | ${text.slice(0, column - 1).replace(/[^\t]/g, ' ')}^`,
    detail && `  detail: ${detail}`,
    hint && `  hint: ${hint}`,
    subject.advice && `  ${subject.advice}`,
  ];
  return new MigrationError(lines.filter(Boolean).join('\n'), {
    database: subject.key,
    migration: subject.tag,
    line,
    cause: error,
  });
}

/** PostgreSQL counts characters, JavaScript UTF-16 code units. */
const codeUnits = (text: string, characters: number) => [...text].slice(0, characters).join('').length;

/** Past blank space and comments: where an error without a position is shown. */
function firstCommand(text: string): number {
  return /^(?:\s+|--[^\n]*(?:\n|$))*/.exec(text)?.[0].length ?? 0;
}

function locate(sql: string, offset: number): { line: number; column: number; text: string } {
  const before = sql.slice(0, offset);
  const line = before.split('\n').length;
  const text = (sql.split('\n')[line - 1] ?? '').replace(/\r$/, '');
  return { line, column: offset - before.lastIndexOf('\n'), text };
}
