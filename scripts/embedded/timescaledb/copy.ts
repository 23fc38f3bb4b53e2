// COPY … FROM STDIN crashes PGlite, so the statement is rewritten to read the client's data from a device.
import type { CopyStmt, Node } from 'libpg-query';
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import type { MessageQueue } from './message-queue.ts';
import { type ErrorFields, int16, message, quoteLiteral, readText } from './messages.ts';
import { parseStatements } from './sql.ts';
import { copyDevice } from './worker-messages.ts';

export interface CopyPlan {
  /** The client's statement with the device instead of STDIN. */
  sql: string;
  /** A query for the number of columns. It fails with the error that PostgreSQL reports before CopyInResponse. */
  describeSql: string;
  binary: boolean;
}

/** Finds a COPY FROM STDIN with a parser, because these words may also occur in a string or a comment. */
export function findCopyFromStdin(sql: string): CopyPlan | 'several statements' | 'unreadable' | undefined {
  if (!/copy/i.test(sql) || !/std(?:in|out)/i.test(sql)) return undefined;
  const statements = parseStatements(sql) ?? [];
  const [copy] = statements.flatMap(copiesFromStdin);
  if (!copy) return undefined;
  if (statements.length > 1) return 'several statements';
  const rewritten = rewrite(sql, copy);
  const { relation, attlist: columns } = copy;
  if (rewritten === undefined || !relation) return 'unreadable';

  const name = [relation.schemaname, relation.relname]
    .filter((part) => part !== undefined)
    .map(quoteIdentifier)
    .join('.');
  const attributes = `pg_catalog.pg_attribute WHERE attrelid = ${quoteLiteral(name)}::pg_catalog.regclass`;
  return {
    sql: rewritten,
    describeSql: columns
      ? `SELECT ${columns.length} FROM ${attributes} LIMIT 1`
      : `SELECT count(*) FROM ${attributes} AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`,
    binary: isBinary(copy),
  };
}

export function copyInResponse(plan: CopyPlan, columns: number): Buffer {
  const format = plan.binary ? 1 : 0;
  const formats = Array.from({ length: columns }, () => int16(format));
  return message('G', Buffer.from([format]), int16(columns), ...formats);
}

function copiesFromStdin(statement: Node): CopyStmt[] {
  if (!('CopyStmt' in statement)) return [];
  const { is_from, is_program, filename } = statement.CopyStmt;
  return is_from && !is_program && filename === undefined ? [statement.CopyStmt] : [];
}

/** Replaces STDIN by the device. Checks that this changes only the file name in the parse tree. */
function rewrite(sql: string, original: CopyStmt): string | undefined {
  const wanted = withoutLocations({ CopyStmt: { ...original, filename: copyDevice } });
  // PostgreSQL's grammar also accepts FROM STDOUT.
  for (const match of sql.matchAll(/\bstd(?:in|out)\b/gi)) {
    const candidate = `${sql.slice(0, match.index)}'${copyDevice}'${sql.slice(match.index + match[0].length)}`;
    const [statement] = parseStatements(candidate) ?? [];
    if (statement && withoutLocations(statement) === wanted) return candidate;
  }
  return undefined;
}

/** Converts a parse tree to a string for comparison, with sorted keys and without positions in the SQL. */
function withoutLocations(tree: Node): string {
  return JSON.stringify(tree, (_key, value: unknown) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    const entries = Object.entries(value).filter(([key]) => !/location$/.test(key));
    return Object.fromEntries(entries.sort(([left], [right]) => (left < right ? -1 : 1)));
  });
}

function isBinary({ options = [] }: CopyStmt): boolean {
  return JSON.stringify(options).includes('{"defname":"format","arg":{"String":{"sval":"binary"}}');
}

/** All data of a COPY stays in memory until CopyDone, because the backend reads it in one call. */
const maximumCopyBytes = 1024 * 1024 * 1024;

export interface CopyData {
  chunks: Buffer[];
  /** Set if the COPY must fail with this error. */
  failure?: ErrorFields;
}

/** Reads CopyData messages up to CopyDone or CopyFail. Returns undefined if the client has disconnected. */
export async function collectCopyData(queue: MessageQueue): Promise<CopyData | undefined> {
  let chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const message = await queue.next();
    if (!message) return undefined;
    const { type, bytes } = message;
    if (type === 'd') {
      size += bytes.length - 5;
      if (size <= maximumCopyBytes) chunks.push(bytes.subarray(5));
      else chunks = [];
    } else if (type === 'c') {
      return size <= maximumCopyBytes ? { chunks } : failure('54000', tooMuchData);
    } else if (type === 'f') {
      return failure('57014', `COPY from stdin failed: ${readText(bytes, 5).value}`);
    } else if (type !== 'H' && type !== 'S') {
      const hex = type.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0');
      return failure('08P01', `unexpected message type 0x${hex} during COPY from stdin`);
    }
  }
}

const tooMuchData = 'the embedded server takes at most 1 GB in one COPY: send it in several';

function failure(code: string, message: string): CopyData {
  return { chunks: [], failure: { severity: 'ERROR', code, message } };
}
