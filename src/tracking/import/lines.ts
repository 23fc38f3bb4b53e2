// Splits a stream of bytes or text into lines, and marks lines that are not UTF-8.
import { isUtf8 } from 'node:buffer';
import { ValidationError } from '../../errors.ts';

/** In bytes. Without a limit, a file without line breaks would fill the memory. No location needs this much. */
const longestLine = 1_000_000;
/** In bytes. Longer pieces are cut, because each piece becomes one batch of locations. */
const longestPiece = 256 * 1024;

interface WholeLines {
  /** Lines with their line feeds. In UTF-8, the byte of a line feed is never part of another character. */
  readonly bytes: Buffer;
  /** `bytes` is the last line of the text and has no line feed. */
  readonly isUnended: boolean;
}

// node:readline is not used, because it yields one line at a time, which takes longer than parsing the location.
export async function* wholeLines(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<WholeLines> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of toBytes(source)) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, piece]) : piece;
    const end = bytes.lastIndexOf(lineFeed) + 1;
    // A copy, because a source may reuse its buffer.
    rest = Buffer.from(bytes.subarray(end));
    if (rest.length > longestLine) {
      throw new ValidationError(`A line is longer than ${longestLine} bytes: this is not CSV or NDJSON.`);
    }
    if (end > 0) yield { bytes: bytes.subarray(0, end), isUnended: false };
  }
  if (rest.length > 0) yield { bytes: rest, isUnended: true };
}

export const lineFeed = 0x0a;

interface Line {
  readonly text: string;
  /** The bytes of a line that is not UTF-8. In `text`, U+FFFD replaces what cannot be decoded. */
  readonly broken: Uint8Array | undefined;
  /** Where the next line begins. */
  readonly end: number;
}

/** Reads the line that begins at `start` and ends at a line feed or at the end of `bytes`. */
export function readLine(bytes: Buffer, start: number): Line {
  const found = bytes.indexOf(lineFeed, start);
  const line = bytes.subarray(start, found < 0 ? bytes.length : found);
  const text = line.toString('utf8');
  // A copy, because a stream may reuse its buffer.
  const broken = isUtf8(line) ? undefined : Uint8Array.from(line);
  return {
    text: text.endsWith('\r') ? text.slice(0, -1) : text,
    broken,
    end: found < 0 ? bytes.length : found + 1,
  };
}

async function* toBytes(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<Buffer> {
  // A piece of text may end between the two code units of a surrogate pair.
  let half = '';
  for await (const piece of source) {
    if (typeof piece !== 'string') {
      yield* cut(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
      continue;
    }
    const text = half + piece;
    half = (text.charCodeAt(text.length - 1) & 0xfc00) === 0xd800 ? text.slice(-1) : '';
    yield* cut(Buffer.from(half === '' ? text : text.slice(0, -1)));
  }
  if (half !== '') yield Buffer.from(half);
}

function* cut(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += longestPiece)
    yield bytes.subarray(start, start + longestPiece);
}
