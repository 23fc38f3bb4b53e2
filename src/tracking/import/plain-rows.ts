// Encodes rows of CSV for COPY from the bytes of the text, without creating a string or object for each value.
// csv-parse is not used, because it takes more time for a row than the server. Only plain rows are encoded: ASCII, no
// quotes, and valid cells in the usual forms. LineReader reads all other rows and says what is wrong with them.

import { encodeTime } from '../column-types.ts';
import { type LocationColumn, locationColumns } from '../columns.ts';
import type { CopyBuffer } from '../copy-buffer.ts';
import { mayBeZero, readTime } from '../plain-cells.ts';
import { lineFeed } from './lines.ts';
import type { CsvLayout } from './parse.ts';

interface RowTarget {
  /** Returns the buffer for a row with this time (milliseconds since 1970), or undefined if it is not accepted. */
  bufferFor(time: number): CopyBuffer | undefined;
  /** Called when a row with this time has been encoded. */
  count(time: number): void;
  /** Applications whose rows are not accepted. */
  readonly foreignSources: readonly string[];
}

const timePlace = locationColumns.findIndex(({ property }) => property === 'time');
const appSourcePlace = locationColumns.findIndex(({ property }) => property === 'appSource');
const positionPlaces = locationColumns.flatMap(({ property }, place) =>
  property === 'latitude' || property === 'longitude' ? [place] : [],
);

const [quote, carriageReturn, space, hash] = [0x22, 0x0d, 0x20, 0x23];

/** Returns undefined if no row of the CSV can be plain. */
export function plainRows(layout: CsvLayout, shiftMs: number, target: RowTarget): PlainRows | undefined {
  const isPlain =
    layout.isUtc &&
    /^[\t!#-~]$/.test(layout.delimiter) &&
    [timePlace, ...positionPlaces].every((place) => (layout.places[place] ?? -1) >= 0) &&
    (target.foreignSources.length === 0 || isOwn(layout, target));
  return isPlain ? new PlainRows(layout, shiftMs, target) : undefined;
}

/** Whether all rows belong to one application and its rows are accepted. */
const isOwn = ({ places, fallbacks }: CsvLayout, { foreignSources }: RowTarget): boolean =>
  places[appSourcePlace] === -1 && !foreignSources.includes(fallbacks[appSourcePlace] ?? '');

class PlainRows {
  /** The kind of each byte value. Bytes of kind 0 are part of a cell. */
  readonly #kinds = new Uint8Array(256);
  /** The start and the end of each cell of a row. */
  readonly #cells: Int32Array;
  readonly #layout: CsvLayout;
  readonly #shiftMs: number;
  readonly #target: RowTarget;

  constructor(layout: CsvLayout, shiftMs: number, target: RowTarget) {
    this.#kinds.fill(notPlain, 0x7f);
    this.#kinds[layout.delimiter.charCodeAt(0)] = endsCell;
    this.#kinds[lineFeed] = endsRow;
    this.#kinds[quote] = notPlain;
    this.#cells = new Int32Array(layout.width * 2);
    this.#layout = layout;
    this.#shiftMs = shiftMs;
    this.#target = target;
  }

  /**
   * Encodes the rows that begin at `start`, up to the first one that is not plain.
   * @param bytes Whole lines.
   * @returns the number of encoded rows, and where the next row begins.
   */
  encode(bytes: Buffer, start: number): { rows: number; end: number } {
    let rows = 0;
    let end = start;
    while (end < bytes.length) {
      const next = findCells(bytes, end, this.#kinds, this.#cells);
      if (next < 0 || !this.#encodeRow(bytes)) break;
      rows += 1;
      end = next;
    }
    return { rows, end };
  }

  #encodeRow(bytes: Buffer): boolean {
    const { places, fallbacks } = this.#layout;
    const cells = this.#cells;
    const timeCell = (places[timePlace] as number) * 2;
    // Truncated as in a Date, which has whole milliseconds.
    const time = Math.trunc(
      readTime(bytes, cells[timeCell] as number, cells[timeCell + 1] as number) + this.#shiftMs,
    );
    if (this.#mayBeZeroPosition(bytes)) return false;
    const buffer = this.#target.bufferFor(time);
    if (!buffer) return false;
    buffer.reserve();
    const { offset } = buffer;
    buffer.int16(locationColumns.length);
    for (let place = 0; place < locationColumns.length; place += 1) {
      const column = locationColumns[place] as LocationColumn;
      const cell = (places[place] as number) * 2;
      const start = cell < 0 ? 0 : (cells[cell] as number);
      const end = cell < 0 ? 0 : (cells[cell + 1] as number);
      let isPlain = true;
      if (place === timePlace) encodeTime(buffer, time);
      else if (start < end) isPlain = column.copyCell(buffer, bytes, start, end);
      else if (fallbacks[place] !== undefined) column.encode(buffer, fallbacks[place]);
      else if (column.required) isPlain = false;
      else buffer.null();
      if (!isPlain) {
        buffer.rewind(offset);
        return false;
      }
    }
    this.#target.count(time);
    return true;
  }

  /** Whether a row may be at 0, 0. Such a row is not plain, because only `allowZeroPosition` accepts it. */
  #mayBeZeroPosition(bytes: Buffer): boolean {
    for (const place of positionPlaces) {
      const cell = (this.#layout.places[place] as number) * 2;
      if (!mayBeZero(bytes, this.#cells[cell] as number)) return false;
    }
    return true;
  }
}

/** Kinds of bytes. Looking them up in a table takes a third less time than comparing bytes. */
const [endsCell, endsRow, notPlain] = [1, 2, 3];

/**
 * Finds the cells of the row that begins at `start`.
 * @param cells Receives the start and the end of each cell. Its length is twice the number of cells of a plain row.
 * @returns where the next row begins, or -1 if the row is not plain.
 */
function findCells(bytes: Buffer, start: number, kinds: Uint8Array, cells: Int32Array): number {
  // A blank line, a comment, or a first cell that begins with whitespace.
  const first = bytes[start] as number;
  if (first <= space || first === hash) return -1;
  let found = 0;
  let cellStart = start;
  for (let at = start; at < bytes.length; at += 1) {
    const kind = kinds[bytes[at] as number];
    if (kind === 0) continue;
    if (kind === notPlain || found === cells.length) return -1;
    cells[found] = cellStart;
    cells[found + 1] = kind === endsRow && bytes[at - 1] === carriageReturn ? at - 1 : at;
    found += 2;
    if (kind === endsRow) return found === cells.length ? at + 1 : -1;
    cellStart = at + 1;
  }
  return -1;
}
