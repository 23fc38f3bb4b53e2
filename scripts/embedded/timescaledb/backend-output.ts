// Filters the backend's answer for the client: removes noise and the answers to the server's own messages.
import {
  commandComplete,
  type ErrorFields,
  errorResponse,
  MessageReader,
  message,
  readFields,
  readRow,
} from './messages.ts';
import type { OutgoingMessage, PreparedStatement, PreparedStatements } from './statements.ts';

export interface OutputOptions {
  /** Set for a query of the server itself: its rows are added here. The client receives only errors and notices. */
  captureRows?: (string | null)[][];
  /** Replaces the command tag in CommandComplete. */
  tag?: string;
  /** Sent instead of the error with the same code. The server itself made the backend raise that error. */
  replacement?: ErrorFields;
}

export class BackendOutput {
  /** After an error, the backend ignores all messages up to the next Sync. */
  skippingTillSync = false;
  transactionStatus: 'I' | 'T' | 'E' = 'I';
  /** The backend has sent ReadyForQuery. The session sends it to the client after its own work. */
  isReady = false;
  readonly #statements: PreparedStatements;
  readonly #write: (bytes: Buffer) => void;
  #reader = new MessageReader();
  #parses: { prepared: PreparedStatement; fromClient: boolean }[] = [];
  #closes: { fromClient: boolean }[] = [];
  #options: OutputOptions = {};

  constructor(statements: PreparedStatements, write: (bytes: Buffer) => void) {
    this.#statements = statements;
    this.#write = write;
  }

  expect(outgoing: OutgoingMessage[], options: OutputOptions): void {
    this.#reader = new MessageReader();
    this.#options = options;
    this.isReady = false;
    if (this.skippingTillSync) return;
    for (const { parse, close } of outgoing) {
      if (parse) this.#parses.push(parse);
      if (close) this.#closes.push(close);
    }
  }

  receive(bytes: Buffer): void {
    const kept: Buffer[] = [];
    for (const answer of this.#reader.push(bytes)) {
      const passed = this.#filter(answer.type, answer.bytes);
      if (passed) kept.push(passed);
    }
    if (kept.length > 0) this.#write(kept.length === 1 && kept[0] ? kept[0] : Buffer.concat(kept));
  }

  #filter(type: string, bytes: Buffer): Buffer | undefined {
    const { captureRows, tag } = this.#options;
    if (type === 'E') {
      this.skippingTillSync = true;
      this.#parses = [];
      this.#closes = [];
      return this.#filterError(bytes);
    }
    if (type === 'Z') {
      this.skippingTillSync = false;
      this.isReady = true;
      this.transactionStatus = toTransactionStatus(bytes.toString('latin1', 5, 6));
      return undefined;
    }
    if (type === 'N') return isNoise(bytes) ? undefined : bytes;
    if (captureRows) {
      if (type === 'D') captureRows.push(readRow(bytes));
      return undefined;
    }
    if (type === '1') {
      const parse = this.#parses.shift();
      if (parse) this.#statements.confirm(parse.prepared);
      return parse?.fromClient === false ? undefined : bytes;
    }
    if (type === '3') return this.#closes.shift()?.fromClient === false ? undefined : bytes;
    if (type === 'C' && tag !== undefined) return commandComplete(tag);
    return bytes;
  }

  #filterError(bytes: Buffer): Buffer {
    const { replacement } = this.#options;
    if (replacement && readFields(bytes).C === replacement.code) return errorResponse(replacement);
    const { prefix } = this.#statements;
    if (!bytes.includes(prefix)) return bytes;
    return message('E', Buffer.from(bytes.subarray(5).toString('utf8').replaceAll(prefix, '')));
  }
}

function toTransactionStatus(letter: string): 'I' | 'T' | 'E' {
  return letter === 'T' || letter === 'E' ? letter : 'I';
}

/** Whether only this build of PGlite sends the notice: about an aborted transaction, or about loading the extension. */
function isNoise(notice: Buffer): boolean {
  const problem = readFields(notice).M ?? '';
  return /^# \d+: /.test(problem) || problem === 'timescaledb loaded';
}
