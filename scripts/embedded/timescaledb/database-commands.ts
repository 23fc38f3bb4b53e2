// Finds CREATE and DROP DATABASE, which the server runs itself, and RENAME, which it refuses.
import type { Node } from 'libpg-query';
import { parseStatements } from './sql.ts';

export type DatabaseCommand =
  | { tag: 'CREATE DATABASE'; name: string; template: string | undefined; owner: string | undefined }
  | { tag: 'DROP DATABASE'; name: string; ifExists: boolean; force: boolean }
  | { tag: 'ALTER DATABASE' };

/** Finds the first database command in the SQL, and whether it is the only statement. */
export function findDatabaseCommand(sql: string): { command: DatabaseCommand; isAlone: boolean } | undefined {
  if (!/\bdatabase\b/i.test(sql) || !/\b(?:create|drop|rename)\b/i.test(sql)) return undefined;
  const statements = parseStatements(sql) ?? [];
  const [command] = statements.flatMap((statement) => toCommand(statement) ?? []);
  return command && { command, isAlone: statements.length === 1 };
}

/** Returns the database command if it is the only statement of the SQL. */
export function soleDatabaseCommand(sql: string): DatabaseCommand | undefined {
  const found = findDatabaseCommand(sql);
  return found?.isAlone ? found.command : undefined;
}

function toCommand(statement: Node): DatabaseCommand | undefined {
  if ('CreatedbStmt' in statement) {
    const { dbname: name = '', options } = statement.CreatedbStmt;
    const option = optionsOf(options);
    return { tag: 'CREATE DATABASE', name, template: option.get('template'), owner: option.get('owner') };
  }
  if ('DropdbStmt' in statement) {
    const { dbname: name = '', missing_ok: ifExists = false, options } = statement.DropdbStmt;
    return { tag: 'DROP DATABASE', name, ifExists, force: optionsOf(options).has('force') };
  }
  if ('RenameStmt' in statement && statement.RenameStmt.renameType === 'OBJECT_DATABASE') {
    return { tag: 'ALTER DATABASE' };
  }
  return undefined;
}

/** Returns options by name. The server ignores encoding and locale: it always uses UTF8 and sorts by code point. */
function optionsOf(options: Node[] = []): Map<string, string | undefined> {
  const values = new Map<string, string | undefined>();
  for (const option of options) {
    if (!('DefElem' in option)) continue;
    const { defname = '', arg } = option.DefElem;
    values.set(defname, arg && 'String' in arg ? arg.String.sval : undefined);
  }
  return values;
}
