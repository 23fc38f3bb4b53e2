// An error that the server itself answers with, in PostgreSQL's terms.
import type { Fields } from './messages.ts';

export class Refusal extends Error {
  override readonly name = 'Refusal';
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
