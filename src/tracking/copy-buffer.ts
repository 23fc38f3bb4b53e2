// Encodes rows in PostgreSQL's binary COPY format. The server reads it a fifth faster than text, which it must parse.
// No library is used, because the available libraries encode each value separately, with generic type encoders.

/** Signature, flags and length of the header extension. See "Binary Format" in PostgreSQL's documentation of COPY. */
const signature = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const trailer = Buffer.from([0xff, 0xff]);
const chunkBytes = 256 * 1024;

/** Collects the bytes of successive COPY statements in chunks. A chunk in `full` is never written to again. */
export class CopyBuffer {
  #buffer = Buffer.allocUnsafeSlow(chunkBytes);
  /** The same memory as `#buffer`. A DataView's setters are twice as fast as a Buffer's. */
  #view = new DataView(this.#buffer.buffer);
  #offset = signature.copy(this.#buffer);
  readonly #rowBytes: number;
  #isEmpty = true;
  /** Chunks that are ready to be sent. */
  readonly full: Uint8Array[] = [];

  /** @param rowBytes The maximum size of a row in bytes, without the texts of its jsonb values. */
  constructor(rowBytes: number) {
    this.#rowBytes = rowBytes;
  }

  /** Makes room for a row and `more` bytes. Call it before each row. Of the other methods, only `jsonb` calls it. */
  reserve(more = 0): void {
    this.#isEmpty = false;
    const needed = this.#rowBytes + more;
    if (this.#offset + needed <= this.#buffer.length) return;
    this.full.push(this.#buffer.subarray(0, this.#offset));
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(chunkBytes, needed));
    this.#view = new DataView(this.#buffer.buffer);
    this.#offset = 0;
  }

  /** Position of the next value. `rewind(position)` discards what was written since. Call no `reserve` in between. */
  get offset(): number {
    return this.#offset;
  }

  rewind(offset: number): void {
    this.#offset = offset;
  }

  /** Whether no row was written since the last `end`. */
  get isEmpty(): boolean {
    return this.#isEmpty;
  }

  /** Ends the COPY. The next row begins another COPY. @returns the bytes that are not in `full`, with the trailer. */
  end(): Uint8Array {
    const rest = Buffer.concat([this.#buffer.subarray(0, this.#offset), trailer]);
    this.#offset = signature.copy(this.#buffer);
    this.#isEmpty = true;
    return rest;
  }

  int16(value: number): void {
    this.#view.setInt16(this.#offset, value);
    this.#offset += 2;
  }

  int32(value: number): void {
    this.#view.setInt32(this.#offset, value);
    this.#offset += 4;
  }

  null(): void {
    this.int32(-1);
  }

  int64(value: number): void {
    const high = Math.floor(value / 2 ** 32);
    this.int32(high);
    this.#view.setUint32(this.#offset, value - high * 2 ** 32);
    this.#offset += 4;
  }

  uuid(text: string): void {
    for (let index = 0; index < 36; index += 2) {
      if (index === 8 || index === 13 || index === 18 || index === 23) index += 1;
      const byte = (hexDigit(text.charCodeAt(index)) << 4) | hexDigit(text.charCodeAt(index + 1));
      this.#view.setUint8(this.#offset, byte);
      this.#offset += 1;
    }
  }

  /** Writes the 16 bytes of the uuid whose text begins at `start`. @returns false if the text is not a uuid. */
  uuidFrom(bytes: Uint8Array, start: number): boolean {
    let index = start;
    for (let length = 0; length < 16; length += 1) {
      if (length === 4 || length === 6 || length === 8 || length === 10) {
        if (bytes[index] !== hyphen) return false;
        index += 1;
      }
      const high = hexDigits[bytes[index] as number] as number;
      const low = hexDigits[bytes[index + 1] as number] as number;
      // A character that is not a digit has the value -1, in which all bits are set.
      if ((high | low) < 0) return false;
      this.#view.setUint8(this.#offset, (high << 4) | low);
      this.#offset += 1;
      index += 2;
    }
    return true;
  }

  /** Writes the length and the bytes. */
  bytesFrom(bytes: Uint8Array, start: number, end: number): void {
    this.int32(end - start);
    for (let at = start; at < end; at += 1) {
      this.#buffer[this.#offset] = bytes[at] as number;
      this.#offset += 1;
    }
  }

  /** Writes the length and the text. */
  text(text: string): void {
    const length = this.#buffer.write(text, this.#offset + 4);
    this.int32(length);
    this.#offset += length;
  }

  /** Writes the length, the version of the jsonb format (1) and the text. */
  jsonb(text: string): void {
    // A UTF-16 code unit takes at most three bytes in UTF-8.
    this.reserve(text.length * 3);
    const length = this.#buffer.write(text, this.#offset + 5);
    this.int32(length + 1);
    this.#view.setUint8(this.#offset, 1);
    this.#offset += 1 + length;
  }
}

/** The value of a hexadecimal digit: the low four bits of its character code, plus nine for letters. */
const hexDigit = (code: number): number => (code & 15) + (code >> 6) * 9;

const hyphen = 0x2d;
/** Maps the character code of a hexadecimal digit to its value, and all other codes to -1. */
const hexDigits = Int8Array.from({ length: 256 }, (_, code) =>
  /[\da-f]/i.test(String.fromCharCode(code)) ? hexDigit(code) : -1,
);
