// Errors that the server itself reports, and SQL that makes the backend raise an error.
import { type ErrorFields, message, quoteLiteral, text } from './messages.ts';

export class PostgresError extends Error {
  override readonly name = 'PostgresError';
  readonly fields: ErrorFields;

  constructor(code: string, problem: string, more: Partial<ErrorFields> = {}) {
    super(problem);
    this.fields = { severity: 'ERROR', code, message: problem, ...more };
  }
}

export const shuttingDown: ErrorFields = {
  severity: 'FATAL',
  code: '57P01',
  message: 'terminating connection due to administrator command',
};

export const crashed: ErrorFields = {
  severity: 'FATAL',
  code: '57P02',
  message: 'terminating connection because the embedded database crashed',
  detail: 'It starts again from its data folder at the next connection. What was not committed is lost.',
  hint: 'In a moment you should be able to reconnect to the database and repeat your command.',
};

/** SQL that makes the backend raise the error, so that it aborts the transaction like any other error. */
export function raiseSql(code: string, problem: string): string {
  const fields = `ERRCODE = ${quoteLiteral(code)}, MESSAGE = ${quoteLiteral(problem)}`;
  return `DO ${quoteLiteral(`BEGIN RAISE EXCEPTION USING ${fields}; END`)}`;
}

/** One statement in the extended query protocol. There is no Sync, so it is part of the current transaction. */
export function extendedQuery(sql: string): Buffer {
  const name = text('embedded server');
  const none = Buffer.alloc(2);
  return Buffer.concat([
    // Close the previous statement of this name, which still exists if it failed.
    message('C', Buffer.from('S'), name),
    message('P', name, text(sql), none),
    message('B', name, name, none, none, none),
    message('E', name, Buffer.alloc(4)),
    message('C', Buffer.from('P'), name),
  ]);
}
