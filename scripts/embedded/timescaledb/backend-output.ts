// The backend's answer on its way to the client: what is noise or was asked by us is taken out.
import {
  commandComplete,
  errorResponse,
  type Fields,
  MessageReader,
  readFields,
  readRow,
} from './messages.ts';
import type { Outgoing, Prepared } from './statements.ts';

export interface OutputOptions {
  /** Our own question: rows go here, and of the rest the client sees only an error. */
  capture?: (string | null)[][];
  /** Instead of the tag of the next CommandComplete. */
  tag?: string;
  /** What to say instead of an error with the same code, which the backend raised for us. */
  instead?: Fields;
}

export interface OutputListener {
  write(bytes: Buffer): void;
  parsed(prepared: Prepared): void;
}

export class BackendOutput {
  /** An error came, and the backend ignores everything up to the next Sync. */
  skipping = false;
  status: 'I' | 'T' | 'E' = 'I';
  /** ReadyForQuery came; it is passed on when our own work after it is done. */
  ready = false;
  readonly #listener: OutputListener;
  readonly #prefix: string;
  #reader = new MessageReader();
  #parses: { prepared: Prepared; client: boolean }[] = [];
  #closes: { client: boolean }[] = [];
  #options: OutputOptions = {};

  constructor(listener: OutputListener, prefix: string) {
    this.#listener = listener;
    this.#prefix = prefix;
  }

  expect(outgoing: Outgoing[], options: OutputOptions): void {
    this.#reader = new MessageReader();
    this.#options = options;
    this.ready = false;
    if (this.skipping) return;
    for (const { parse, close } of outgoing) {
      if (parse) this.#parses.push(parse);
      if (close) this.#closes.push(close);
    }
  }

  receive(bytes: Buffer): void {
    const kept: Buffer[] = [];
    for (const message of this.#reader.push(bytes)) {
      const passed = this.#pass(message.type, message.bytes);
      if (passed) kept.push(passed);
    }
    if (kept.length > 0) this.#listener.write(kept.length === 1 && kept[0] ? kept[0] : Buffer.concat(kept));
  }

  #pass(type: string, bytes: Buffer): Buffer | undefined {
    const { capture, tag } = this.#options;
    if (type === 'E') {
      this.skipping = true;
      this.#parses = [];
      this.#closes = [];
      return this.#error(bytes);
    }
    if (type === 'Z') {
      this.skipping = false;
      this.ready = true;
      this.status = toStatus(bytes.toString('latin1', 5, 6));
      return undefined;
    }
    if (type === 'N') return isNoise(bytes) ? undefined : bytes;
    if (capture) {
      if (type === 'D') capture.push(readRow(bytes));
      return undefined;
    }
    if (type === '1') {
      const parse = this.#parses.shift();
      if (parse) this.#listener.parsed(parse.prepared);
      return parse?.client === false ? undefined : bytes;
    }
    if (type === '3') return this.#closes.shift()?.client === false ? undefined : bytes;
    if (type === 'C' && tag !== undefined) return commandComplete(tag);
    return bytes;
  }

  #error(bytes: Buffer): Buffer {
    const { instead } = this.#options;
    if (instead && readFields(bytes).C === instead.code) return errorResponse(instead);
    if (!bytes.includes(this.#prefix)) return bytes;
    const body = Buffer.from(bytes.subarray(5).toString('utf8').replaceAll(this.#prefix, ''));
    const head = Buffer.from(bytes.subarray(0, 5));
    head.writeInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  }
}

function toStatus(letter: string): 'I' | 'T' | 'E' {
  return letter === 'T' || letter === 'E' ? letter : 'I';
}

/** A build without background processes reports aborted transactions by number, and each load of the extension. */
function isNoise(notice: Buffer): boolean {
  const problem = readFields(notice).M ?? '';
  return /^# \d+: /.test(problem) || problem === 'timescaledb loaded';
}
