// Finds CREATE and DROP DATABASE, which the server runs itself, and RENAME, which it refuses.
import { isRecord } from '../files.ts';
import { type Message, readText } from './messages.ts';
import { type ParsedStatement, parseStatements } from './sql.ts';

export type DatabaseCommand =
  | { tag: 'CREATE DATABASE'; name: string; template: string | undefined; owner: string | undefined }
  | { tag: 'DROP DATABASE'; name: string; ifExists: boolean; force: boolean }
  | { tag: 'ALTER DATABASE'; name: string };

export type CommandFinding = DatabaseCommand | { severalStatements: string } | undefined;

export function findDatabaseCommand(sql: string): CommandFinding {
  if (!/\bdatabase\b/i.test(sql) || !/\b(?:create|drop|rename)\b/i.test(sql)) return undefined;
  const statements = parseStatements(sql) ?? [];
  const commands = statements.flatMap((statement) => toCommand(statement) ?? []);
  const [command] = commands;
  if (!command) return undefined;
  return statements.length > 1 ? { severalStatements: command.tag } : command;
}

/** The database command of a simple query that contains no other statement. */
export function soleDatabaseCommand(message: Message | undefined): DatabaseCommand | undefined {
  if (message?.type !== 'Q') return undefined;
  const command = findDatabaseCommand(readText(message.bytes, 5).value);
  return command && 'tag' in command ? command : undefined;
}

function toCommand({ kind, node }: ParsedStatement): DatabaseCommand | undefined {
  if (kind === 'CreatedbStmt') {
    const option = optionsOf(node);
    return {
      tag: 'CREATE DATABASE',
      name: String(node.dbname),
      template: option.get('template'),
      owner: option.get('owner'),
    };
  }
  if (kind === 'DropdbStmt') {
    return {
      tag: 'DROP DATABASE',
      name: String(node.dbname),
      ifExists: node.missing_ok === true,
      force: optionsOf(node).has('force'),
    };
  }
  if (kind === 'RenameStmt' && node.renameType === 'OBJECT_DATABASE') {
    return { tag: 'ALTER DATABASE', name: String(node.subname) };
  }
  return undefined;
}

/** Encoding and locale are accepted and ignored: databases always have UTF8 and sort by code point. */
function optionsOf(node: Record<string, unknown>): Map<string, string | undefined> {
  const options = new Map<string, string | undefined>();
  for (const entry of Array.isArray(node.options) ? node.options : []) {
    const element = isRecord(entry) ? entry.DefElem : undefined;
    if (!isRecord(element)) continue;
    const argument = isRecord(element.arg) ? element.arg.String : undefined;
    const value = isRecord(argument) ? argument.sval : undefined;
    options.set(String(element.defname), typeof value === 'string' ? value : undefined);
  }
  return options;
}
