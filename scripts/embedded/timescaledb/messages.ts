// PostgreSQL's protocol version 3, as far as a server needs it: splits streams into messages, and builds messages.
// The library pg-gateway does not fit: it answers each message separately, and supports neither CancelRequest nor COPY
// nor a limit on the message length.

export interface Message {
  /** The type byte as a character, e.g. 'Q'. */
  type: string;
  /** The whole message, including the type byte and the length. */
  bytes: Buffer;
}

/** In bytes. PostgreSQL's limit is 1 GB. This lower limit keeps an invalid length from exhausting memory. */
const maximumMessageLength = 512 * 1024 * 1024;

export class ProtocolViolation extends Error {}

/** Splits a stream into typed messages. Chunks may begin and end anywhere in a message. */
export class MessageReader {
  #chunks: Buffer[] = [];
  #size = 0;
  #needed = 5;

  /** @throws ProtocolViolation if a length is invalid or `accepts` returns false for a type. */
  push(chunk: Buffer, accepts?: (type: string) => boolean): Message[] {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    // A large message arrives in thousands of chunks. They are joined only once, which takes linear time.
    if (this.#size < this.#needed) return [];
    const buffer = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    const messages: Message[] = [];
    let at = 0;
    this.#needed = 5;
    while (buffer.length - at >= 5) {
      const type = String.fromCharCode(buffer.readUInt8(at));
      const length = buffer.readInt32BE(at + 1);
      if (accepts && !accepts(type)) {
        throw new ProtocolViolation(`invalid frontend message type ${buffer.readUInt8(at)}`);
      }
      if (length < 4 || length > maximumMessageLength) throw new ProtocolViolation('invalid message length');
      if (buffer.length - at < length + 1) {
        this.#needed = length + 1;
        break;
      }
      messages.push({ type, bytes: buffer.subarray(at, at + length + 1) });
      at += length + 1;
    }
    const rest = buffer.subarray(at);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#size = rest.length;
    return messages;
  }
}

export function message(type: string, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

export function text(value: string): Buffer {
  return Buffer.from(`${value}\0`, 'utf8');
}

export function int16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeInt16BE(value);
  return buffer;
}

export function int32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32BE(value);
  return buffer;
}

export const query = (sql: string): Buffer => message('Q', text(sql));
export const sync = message('S');
export const flush = message('H');
export const parameterStatus = (name: string, value: string): Buffer => message('S', text(name), text(value));
export const commandComplete = (tag: string): Buffer => message('C', text(tag));
export const readyForQuery = (status: 'I' | 'T' | 'E'): Buffer => message('Z', Buffer.from(status));

/** The fields of an error or notice, as in PostgreSQL. */
export interface ErrorFields {
  severity: 'FATAL' | 'ERROR' | 'WARNING' | 'NOTICE';
  code: string;
  message: string;
  detail?: string | undefined;
  hint?: string | undefined;
}

export function errorResponse(fields: ErrorFields): Buffer {
  const entries: [string, string | undefined][] = [
    ['S', fields.severity],
    ['V', fields.severity],
    ['C', fields.code],
    ['M', fields.message],
    ['D', fields.detail],
    ['H', fields.hint],
  ];
  const parts = entries.flatMap(([key, value]) =>
    value === undefined ? [] : [Buffer.from(key), text(value)],
  );
  const type = fields.severity === 'FATAL' || fields.severity === 'ERROR' ? 'E' : 'N';
  return message(type, ...parts, Buffer.from([0]));
}

/** The fields of an ErrorResponse or NoticeResponse, by their one-letter codes. */
export function readFields(response: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const part of response.subarray(5).toString('utf8').split('\0')) {
    if (part.length > 0) fields[part.slice(0, 1)] = part.slice(1);
  }
  return fields;
}

/** Reads the zero-terminated string at an offset. `next` is the offset after it. @throws ProtocolViolation */
export function readText(buffer: Buffer, at: number): { value: string; next: number } {
  const end = buffer.indexOf(0, at);
  if (end === -1) throw new ProtocolViolation('invalid string in message');
  return { value: buffer.toString('utf8', at, end), next: end + 1 };
}

/** Reads the values of a DataRow in text format; null for NULL. */
export function readRow(row: Buffer): (string | null)[] {
  const values: (string | null)[] = [];
  let at = 7;
  for (let left = row.readInt16BE(5); left > 0; left--) {
    const length = row.readInt32BE(at);
    at += 4;
    values.push(length === -1 ? null : row.toString('utf8', at, at + length));
    if (length > 0) at += length;
  }
  return values;
}

export function quoteLiteral(value: string): string {
  const quoted = `'${value.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return value.includes('\\') ? `E${quoted}` : quoted;
}
