// Cuts a stream of bytes or text into lines, and tells those that are no UTF-8.
import { isUtf8 } from 'node:buffer';
import { ValidationError } from '../../errors.ts';

/** No point needs more; a file without line breaks would otherwise fill the memory. */
const longestLine = 1_000_000;

interface Lines {
  readonly texts: readonly string[];
  /** By their place: lines that are no UTF-8, as they stood. Their text has U+FFFD where it cannot be read. */
  /** The last one, where no line break ends it. */
  readonly isUnended?: boolean;
  readonly broken?: ReadonlyMap<number, Uint8Array>;
}

// readline hands out one line at a time, which costs more than reading its point.
export async function* splitLines(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<Lines> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of toBytes(source)) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, piece]) : piece;
    const end = bytes.lastIndexOf(lineFeed) + 1;
    // A copy: a source may fill its buffer again.
    rest = Buffer.from(bytes.subarray(end));
    if (rest.length > longestLine) {
      throw new ValidationError(`A line is longer than ${longestLine} bytes: this is no CSV or NDJSON.`);
    }
    if (end > 0) yield readLines(bytes.subarray(0, end - 1));
  }
  if (rest.length > 0) yield { ...readLines(rest), isUnended: true };
}

const lineFeed = 0x0a;

/** Whole lines, without the last one's end. A byte of a line feed is part of no other character. */
function readLines(bytes: Buffer): Lines {
  const texts = bytes.toString('utf8').split('\n').map(withoutReturn);
  if (isUtf8(bytes)) return { texts };
  const broken = new Map<number, Uint8Array>();
  for (let index = 0, start = 0; index < texts.length; index += 1) {
    const found = bytes.indexOf(lineFeed, start);
    const end = found < 0 ? bytes.length : found;
    const line = bytes.subarray(start, end);
    // A copy: a stream may fill its buffer again.
    if (!isUtf8(line)) broken.set(index, Uint8Array.from(line));
    start = end + 1;
  }
  return { texts, broken };
}

async function* toBytes(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<Buffer> {
  // Text may be cut in the middle of a character, too.
  let half = '';
  for await (const piece of source) {
    if (typeof piece !== 'string') {
      yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      continue;
    }
    const text = half + piece;
    half = (text.charCodeAt(text.length - 1) & 0xfc00) === 0xd800 ? text.slice(-1) : '';
    yield Buffer.from(half === '' ? text : text.slice(0, -1));
  }
  if (half !== '') yield Buffer.from(half);
}

const withoutReturn = (line: string) => (line.endsWith('\r') ? line.slice(0, -1) : line);
