// COPY … FROM STDIN: PGlite crashes on it for good, so it reads a device that holds what the client sent.
import { isRecord } from '../files.ts';
import type { MessageQueue } from './message-queue.ts';
import { type Fields, int16, message, quoteIdentifier, quoteLiteral, readText } from './messages.ts';
import { type ParsedStatement, parseStatements } from './sql.ts';
import { copyDevice } from './worker-messages.ts';

export interface CopyPlan {
  /** The client's statement, reading the device instead of STDIN. */
  sql: string;
  /** Yields the number of columns, or the error that a server gives before it asks for data. */
  describeSql: string;
  binary: boolean;
}

export type CopyFinding = CopyPlan | 'several statements' | 'unreadable' | undefined;

/** A parser decides, so that the word STDIN in a string or a comment does no harm. */
export function findCopyFromStdin(sql: string): CopyFinding {
  if (!/copy/i.test(sql) || !/std(?:in|out)/i.test(sql)) return undefined;
  const statements = parseStatements(sql);
  if (!statements?.some(readsStdin)) return undefined;
  const [statement, ...others] = statements;
  if (!statement || others.length > 0) return 'several statements';
  const rewritten = rewrite(sql, statement);
  const relation = statement.node.relation;
  if (rewritten === undefined || !isRecord(relation)) return 'unreadable';

  const columns = statement.node.attlist;
  const name = [relation.schemaname, relation.relname]
    .filter((part) => typeof part === 'string')
    .map(quoteIdentifier)
    .join('.');
  const attributes = `pg_catalog.pg_attribute WHERE attrelid = ${quoteLiteral(name)}::pg_catalog.regclass`;
  return {
    sql: rewritten,
    describeSql: Array.isArray(columns)
      ? `SELECT ${columns.length} FROM ${attributes} LIMIT 1`
      : `SELECT count(*) FROM ${attributes} AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`,
    binary: isBinary(statement),
  };
}

export function copyInResponse(plan: CopyPlan, columns: number): Buffer {
  const format = plan.binary ? 1 : 0;
  const formats = Array.from({ length: columns }, () => int16(format));
  return message('G', Buffer.from([format]), int16(columns), ...formats);
}

function readsStdin({ kind, node }: ParsedStatement): boolean {
  return kind === 'CopyStmt' && node.is_from === true && !node.is_program && node.filename === undefined;
}

/** Replaces the one STDIN that makes the statement equal to itself but for the file it reads. */
function rewrite(sql: string, original: ParsedStatement): string | undefined {
  const wanted = withoutLocations({ ...original.node, filename: copyDevice });
  // FROM STDOUT is the same to PostgreSQL's grammar.
  for (const match of sql.matchAll(/\bstd(?:in|out)\b/gi)) {
    const candidate = `${sql.slice(0, match.index)}'${copyDevice}'${sql.slice(match.index + match[0].length)}`;
    const [statement] = parseStatements(candidate) ?? [];
    if (statement && withoutLocations(statement.node) === wanted) return candidate;
  }
  return undefined;
}

/** Order and offsets left out, so that two trees compare as strings. */
function withoutLocations(tree: unknown): string {
  return JSON.stringify(tree, (_key, value: unknown) => {
    if (!isRecord(value)) return value;
    const entries = Object.entries(value).filter(([key]) => !/location$/.test(key));
    return Object.fromEntries(entries.sort(([left], [right]) => (left < right ? -1 : 1)));
  });
}

function isBinary(statement: ParsedStatement): boolean {
  const options = statement.node.options;
  return JSON.stringify(options ?? []).includes('{"defname":"format","arg":{"String":{"sval":"binary"}}');
}

/** All of one COPY is held in memory until CopyDone, because the backend reads it in one go. */
const mostCopyData = 1024 * 1024 * 1024;

/** The client's CopyData messages up to CopyDone or CopyFail. undefined: the client went away. */
export async function collectCopyData(
  queue: MessageQueue,
): Promise<{ chunks: Buffer[] } | { failure: Fields } | undefined> {
  let chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const message = await queue.next();
    if (!message) return undefined;
    const { type, bytes } = message;
    if (type === 'd') {
      size += bytes.length - 5;
      if (size <= mostCopyData) chunks.push(bytes.subarray(5));
      else chunks = [];
    } else if (type === 'c') {
      return size <= mostCopyData ? { chunks } : { failure: failure('54000', tooMuch) };
    } else if (type === 'f') {
      return { failure: failure('57014', `COPY from stdin failed: ${readText(bytes, 5).value}`) };
    } else if (type !== 'H' && type !== 'S') {
      const hex = type.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0');
      return { failure: failure('08P01', `unexpected message type 0x${hex} during COPY from stdin`) };
    }
  }
}

const tooMuch = 'the embedded server takes at most 1 GB in one COPY: send it in several';

function failure(code: string, message: string): Fields {
  return { severity: 'ERROR', code, message };
}
