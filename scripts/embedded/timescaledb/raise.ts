// Errors raised by the backend on our behalf, so that it aborts the transaction as with any error of its own.
import { message, quoteLiteral, text } from './messages.ts';

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
