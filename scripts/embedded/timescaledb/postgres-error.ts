// Errors that the server answers with, in PostgreSQL's terms, and the SQL by which the backend raises one.
import { type Fields, message, quoteLiteral, text } from './messages.ts';

export class PostgresError extends Error {
  override readonly name = 'PostgresError';
  readonly fields: Fields;

  constructor(code: string, problem: string, more: Partial<Fields> = {}) {
    super(problem);
    this.fields = { severity: 'ERROR', code, message: problem, ...more };
  }
}

export const shuttingDown: Fields = {
  severity: 'FATAL',
  code: '57P01',
  message: 'terminating connection due to administrator command',
};

export const crashed: Fields = {
  severity: 'FATAL',
  code: '57P02',
  message: 'terminating connection because the embedded database crashed',
  detail: 'It starts again from its data folder at the next connection. What was not committed is lost.',
  hint: 'In a moment you should be able to reconnect to the database and repeat your command.',
};

export function cancelled(reason: string | undefined): Fields {
  return { severity: 'ERROR', code: '57014', message: reason ?? 'canceling statement due to user request' };
}

/** SQL by which the backend raises the error, so that it aborts the transaction as with any error of its own. */
export function raiseSql(code: string, problem: string, hint?: string): string {
  const fields = [
    `ERRCODE = ${quoteLiteral(code)}`,
    `MESSAGE = ${quoteLiteral(problem)}`,
    ...(hint === undefined ? [] : [`HINT = ${quoteLiteral(hint)}`]),
  ];
  return `DO ${quoteLiteral(`BEGIN RAISE EXCEPTION USING ${fields.join(', ')}; END`)}`;
}

/** One statement by the extended protocol without a Sync, so that it joins the transaction under way. */
export function extended(sql: string): Buffer {
  const name = text('embedded server');
  const none = Buffer.alloc(2);
  return Buffer.concat([
    // Left behind where the last one failed.
    message('C', Buffer.from('S'), name),
    message('P', name, text(sql), none),
    message('B', name, name, none, none, none),
    message('E', name, Buffer.alloc(4)),
    message('C', Buffer.from('P'), name),
  ]);
}
