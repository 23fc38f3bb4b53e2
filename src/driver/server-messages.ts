// Reads server messages in parallel with postgres.js, to learn when the login ends and why a session ended.
import postgres from 'postgres';

export interface ServerMessages {
  /** Called with the process id that the server, or a proxy in front of it, sends at login. */
  onProcess: (pid: number) => void;
  /** Called at the first ReadyForQuery: the login has succeeded. */
  onLogin: () => void;
  /** Called at each ReadyForQuery. */
  onReady?: () => void;
  /**
   * Called with a FATAL or PANIC error; or, when the server closes the connection, with the earlier warning that gave
   * the reason.
   */
  onEnd: (error: Error) => void;
}

const fields: Readonly<Record<string, string>> = {
  S: 'severity_local',
  V: 'severity',
  C: 'code',
  M: 'message',
  D: 'detail',
  H: 'hint',
  P: 'position',
  p: 'internal_position',
  q: 'internal_query',
  W: 'where',
  s: 'schema_name',
  t: 'table_name',
  c: 'column_name',
  d: 'data type_name',
  n: 'constraint_name',
  F: 'file',
  L: 'line',
  R: 'routine',
};

/** Types of the messages that are read: ErrorResponse, BackendKeyData, NoticeResponse, ReadyForQuery. */
const read = new Set([...'EKNZ'].map((type) => type.charCodeAt(0)));
const headerLength = 5;

/**
 * Parses the bytes of a connection as they arrive. postgres.js reports only CONNECTION_CLOSED if a FATAL error ends the
 * session during a query.
 */
export class MessageReader {
  readonly #on: ServerMessages;
  /** Incomplete message or header at the end of the last chunk. */
  #held = Buffer.alloc(0);
  /** Bytes to skip in the next chunk: the rest of a message that is not read. */
  #skip = 0;
  #isLoggedIn = false;
  #announced: Error | undefined;

  constructor(on: ServerMessages) {
    this.#on = on;
  }

  get isLoggedIn(): boolean {
    return this.#isLoggedIn;
  }

  receive(chunk: Buffer): void {
    const bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    let at = this.#skip;
    while (at + headerLength <= bytes.length) {
      const type = bytes[at] as number;
      const end = at + 1 + bytes.readUInt32BE(at + 1);
      if (read.has(type)) {
        if (end > bytes.length) break;
        this.#handle(type, bytes.subarray(at + headerLength, end));
      }
      at = end;
    }
    this.#skip = Math.max(at - bytes.length, 0);
    this.#held = at < bytes.length ? Buffer.from(bytes.subarray(at)) : Buffer.alloc(0);
  }

  /** Call it when the server closes the connection. If the server crashed, it has sent the reason only as a warning. */
  end(): void {
    if (this.#announced) this.#on.onEnd(this.#announced);
  }

  #handle(type: number, body: Buffer): void {
    switch (String.fromCharCode(type)) {
      case 'K':
        this.#on.onProcess(body.readInt32BE(0));
        break;
      case 'Z':
        if (!this.#isLoggedIn) {
          this.#isLoggedIn = true;
          this.#on.onLogin();
        }
        this.#on.onReady?.();
        break;
      case 'E': {
        const error = readError(body);
        if (error.severity === 'FATAL' || error.severity === 'PANIC') this.#on.onEnd(postgresError(error));
        break;
      }
      case 'N': {
        const notice = readError(body);
        // 57P0x ends the session, even if its severity is only WARNING.
        if (notice.code?.startsWith('57P0')) {
          this.#announced = postgresError({ ...notice, severity: 'FATAL' });
        }
      }
    }
  }
}

function readError(body: Buffer): Record<string, string> {
  const error: Record<string, string> = {};
  for (const field of body.toString('utf8').split('\0')) {
    const name = fields[field.charAt(0)];
    if (name) error[name] = field.slice(1);
  }
  // PgBouncer sends only the localized severity.
  error.severity ??= error.severity_local ?? '';
  return error;
}

/** The constructor is declared to take a string, but takes an object with the fields. */
const postgresError = (error: Record<string, string>): Error =>
  new postgres.PostgresError(error as unknown as string);
