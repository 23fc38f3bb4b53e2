// GPS points in PostgreSQL's binary COPY format: a fifth faster on the server than text, which it must parse.
// By hand: the libraries for this format encode one value at a time from general types.
import { type LocationInput, locationColumns } from './columns.ts';

export const copyStatement = `COPY location_events (${locationColumns.map(({ name }) => name).join(', ')}) FROM STDIN WITH (FORMAT binary)`;

/** Signature, flags and the length of a header extension, after PostgreSQL's "Binary Format" of COPY. */
const signature = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const trailer = Buffer.from([0xff, 0xff]);
const chunkBytes = 256 * 1024;
/** A row without its metadata, with room to spare: 11 lengths, 2 uuids, a time, 6 numbers, 50 characters. */
const rowBytes = 512;
/** PostgreSQL counts its microseconds from 2000-01-01. */
const epoch = Date.UTC(2000, 0, 1);

/** The rows of a COPY in chunks of about 256 kB. Points must have passed validation. */
export function* encodeCopy(events: Iterable<LocationInput>): Generator<Uint8Array> {
  const encoder = new CopyEncoder();
  for (const event of events) {
    const chunk = encoder.add(event);
    if (chunk) yield chunk;
  }
  yield encoder.end();
}

/** Collects rows and gives them away chunk by chunk; a chunk is never written to again. */
export class CopyEncoder {
  #buffer = Buffer.allocUnsafe(chunkBytes);
  #offset = signature.copy(this.#buffer);

  /** @returns a chunk when one is full. */
  add(event: LocationInput): Uint8Array | undefined {
    const metadata = toJson(event.metadata);
    // A character of UTF-16 takes at most three bytes in UTF-8.
    const needed = rowBytes + (metadata === undefined ? 0 : metadata.length * 3);
    const full = this.#offset + needed > this.#buffer.length ? this.#take(needed) : undefined;
    this.#int16(locationColumns.length);
    this.#time(event.time);
    this.#uuid(event.deviceId);
    this.#uuid(event.userId);
    this.#text(event.appSource);
    this.#decimal(event.latitude, 8);
    this.#decimal(event.longitude, 8);
    this.#decimal(event.accuracy, 2);
    this.#decimal(event.altitude, 2);
    this.#decimal(event.speed, 2);
    this.#decimal(event.heading, 2);
    this.#jsonb(metadata);
    return full;
  }

  /** What is left, and the end of the COPY. */
  end(): Uint8Array {
    return Buffer.concat([this.#buffer.subarray(0, this.#offset), trailer]);
  }

  #take(needed: number): Uint8Array {
    const full = this.#buffer.subarray(0, this.#offset);
    this.#buffer = Buffer.allocUnsafe(Math.max(chunkBytes, needed));
    this.#offset = 0;
    return full;
  }

  #int16(value: number): void {
    this.#offset = this.#buffer.writeInt16BE(value, this.#offset);
  }

  #int32(value: number): void {
    this.#offset = this.#buffer.writeInt32BE(value, this.#offset);
  }

  #time(time: Date): void {
    this.#int32(8);
    const microseconds = (time.getTime() - epoch) * 1000;
    const high = Math.floor(microseconds / 2 ** 32);
    this.#int32(high);
    this.#offset = this.#buffer.writeUInt32BE(microseconds - high * 2 ** 32, this.#offset);
  }

  #uuid(text: string): void {
    this.#int32(16);
    for (let index = 0; index < 36; index += 2) {
      if (index === 8 || index === 13 || index === 18 || index === 23) index += 1;
      const byte = (hexDigit(text.charCodeAt(index)) << 4) | hexDigit(text.charCodeAt(index + 1));
      this.#buffer[this.#offset++] = byte;
    }
  }

  #text(text: string): void {
    const length = this.#buffer.write(text, this.#offset + 4);
    this.#int32(length);
    this.#offset += length;
  }

  #jsonb(text: string | undefined): void {
    if (text === undefined) {
      this.#int32(-1);
      return;
    }
    const length = this.#buffer.write(text, this.#offset + 5);
    this.#int32(length + 1);
    // The version of jsonb's format.
    this.#buffer[this.#offset++] = 1;
    this.#offset += length;
  }

  /**
   * NUMERIC travels as groups of four decimal digits around the point: after it one group holds a
   * scale of 2, two groups one of 8; before it the columns have at most six digits, two groups.
   */
  #decimal(value: number | null | undefined, scale: 2 | 8): void {
    if (value === null || value === undefined) {
      this.#int32(-1);
      return;
    }
    const units = Math.round(Math.abs(value) * 10 ** scale);
    const whole = Math.floor(units / 10 ** scale);
    const fraction = units - whole * 10 ** scale;
    const groups = whole >= 10_000 ? 2 : whole > 0 ? 1 : 0;
    const count = groups + (scale === 8 ? 2 : 1);
    this.#int32(8 + 2 * count);
    this.#int16(count);
    this.#int16(groups - 1);
    this.#int16(value < 0 && units > 0 ? 0x4000 : 0);
    this.#int16(scale);
    if (groups === 2) this.#int16(Math.floor(whole / 10_000));
    if (groups > 0) this.#int16(whole % 10_000);
    if (scale === 8) this.#int16(Math.floor(fraction / 10_000));
    this.#int16(scale === 8 ? fraction % 10_000 : fraction * 100);
  }
}

export const toJson = (value: unknown): string | undefined =>
  value === null || value === undefined ? undefined : JSON.stringify(value);

/** '0' to '9', 'a' to 'f' and 'A' to 'F': the low four bits, plus nine for letters. */
const hexDigit = (code: number): number => (code & 15) + (code >> 6) * 9;
