// Reads GPS locations from CSV, NDJSON, GeoJSON and GPX. An invalid location does not affect the others.
import { parse as parseCsv } from 'csv-parse/sync';
import { ValidationError } from '../../errors.ts';
import { Invalid, parseJson, shorten } from '../column-types.ts';
import { emptyLocation, type LocationInput, locationColumns } from '../columns.ts';
import {
  type DetectedDialect,
  type DialectOptions,
  delimiters,
  detectDelimiter,
  type LocationFormat,
  type PlaceOf,
  placesOf,
  timeReader,
} from './dialect.ts';
import type { Row } from './gpx.ts';
import { readLine, wholeLines } from './lines.ts';

export interface ParseOptions extends DialectOptions {
  defaults?: LocationDefaults | undefined;
  /** Called before the first row of CSV, with the header line and how it is read. */
  onHeader?: ((header: string, dialect: DetectedDialect) => void) | undefined;
}

/** Values for rows in which the input has none. */
export type LocationDefaults = Partial<Pick<LocationInput, 'deviceId' | 'userId' | 'appSource'>>;

export interface ImportReject {
  /** Line of the text or number of the GeoJSON feature, from 1; or index among the locations, from 0. */
  position: number;
  reason: string;
  /** The line. For GPX and GeoJSON, the row as a line of NDJSON. Absent for locations that were not text. */
  text?: string;
  /** The bytes of a line that is not UTF-8. In `text`, U+FFFD replaces what cannot be decoded. */
  bytes?: Uint8Array;
}

/** A location that the columns can hold, or the reason why they cannot hold it. */
export type ParsedLocation =
  | {
      readonly position: number;
      readonly text?: string;
      readonly location: LocationInput;
      /** The CSV ends with this row, after a digit or point and without a line break. Digits may be missing. */
      readonly mayBeCut?: true;
    }
  | ImportReject;

/**
 * Reads locations in batches, in constant memory. In CSV and NDJSON, blank lines and lines that begin with `#` are
 * skipped. CSV needs a header of column names, and its cells cannot contain line breaks. Times are truncated to
 * milliseconds. Numbers are rounded to the scale of their column.
 * @throws ValidationError for an invalid option, a header with an unknown, duplicate or missing column, a line that is
 * too long, or text in another format.
 */
export async function* parseLocations(
  source: AsyncIterable<string | Uint8Array>,
  format: LocationFormat,
  options: ParseOptions = {},
): AsyncGenerator<ParsedLocation[]> {
  if (format === 'gpx' || format === 'geojson') {
    const cells = readerOfCells(options);
    // Loads a reader and its library only when needed.
    const rows =
      format === 'gpx'
        ? (await import('./gpx.ts')).readGpx(source)
        : (await import('./geojson.ts')).readGeoJson(source);
    for await (const batch of rows) yield batch.map((row) => fromRow(row, cells));
    return;
  }
  const reader = new LineReader(format, options);
  for await (const { bytes, isUnended } of wholeLines(source)) {
    const parsed: ParsedLocation[] = [];
    let start = 0;
    while (start < bytes.length) {
      const { text, broken, end } = readLine(bytes, start);
      const location = reader.read(text, broken, isUnended);
      if (location) parsed.push(location);
      start = end;
    }
    if (parsed.length > 0) yield parsed;
  }
}

/** Describes how the cells of a CSV row map to the columns of the table. */
export interface CsvLayout {
  readonly delimiter: string;
  /** Number of cells of a row. */
  readonly width: number;
  /** For each column of the table, the index of its cell, or -1. */
  readonly places: readonly number[];
  /** For each column of the table, the value that replaces an empty or missing cell. */
  readonly fallbacks: readonly (string | undefined)[];
  /** Whether times without a zone are UTC. */
  readonly isUtc: boolean;
}

/** Reads CSV or NDJSON line by line. */
export class LineReader {
  readonly #options: ParseOptions;
  readonly #cells: CellReader;
  #delimiter: string | undefined;
  #readRow: ((text: string) => LocationInput | Invalid) | undefined;
  #mayEndEarly = false;
  /** The number of lines that were read. */
  position = 0;
  /** Undefined before the header, and for NDJSON. */
  layout: CsvLayout | undefined;

  constructor(format: 'csv' | 'ndjson', options: ParseOptions) {
    this.#options = options;
    this.#cells = readerOfCells(options);
    this.#delimiter = options.delimiter;
    const { fromCells, placeOf } = this.#cells;
    if (format === 'ndjson') this.#readRow = (text) => fromCells(jsonCells(text, placeOf));
  }

  /**
   * @param broken The bytes of a line that is not UTF-8.
   * @returns undefined for a header, a blank line or a comment.
   */
  read(original: string, broken?: Uint8Array, isUnended = false): ParsedLocation | undefined {
    this.position += 1;
    const { position } = this;
    const text = position === 1 ? original.replace(/^\uFEFF/, '') : original;
    if (text.startsWith('#') || isBlank(text)) return undefined;
    if (!this.#readRow) {
      if (broken) throw new ValidationError('The header is not UTF-8.');
      // Some programs write a line such as `sep=;` to tell Excel the delimiter.
      if (/^sep=.$/i.test(text)) this.#delimiter ??= text.slice(4);
      else this.#readHeader(text);
      return undefined;
    }
    if (broken) return { position, text: original, reason: 'is not UTF-8', bytes: broken };
    const location = this.#readRow(text);
    if (location instanceof Invalid) return { position, text: original, reason: location.reason };
    const mayBeCut = isUnended && this.#mayEndEarly && /[\d.]$/.test(text);
    return { position, text: original, location, ...(mayBeCut && { mayBeCut }) };
  }

  #readHeader(text: string): void {
    const { defaults = {}, onHeader, timeZone } = this.#options;
    const { fromCells, placeOf, fallbacks } = this.#cells;
    const delimiter = this.#delimiter ?? detectDelimiter(text, placeOf);
    const header = parseHeader(text, delimiter, placeOf, defaults);
    const places = locationColumns.map((_, place) => header.findIndex((one) => one.place === place));
    const isUtc = timeZone === undefined;
    const layout = { delimiter, width: header.length, places, fallbacks, isUtc };
    this.layout = layout;
    this.#readRow = (row) => fromCells(csvCells(row, layout));
    // A truncated uuid is refused anyway.
    this.#mayEndEarly = locationColumns[header.at(-1)?.place ?? -1]?.type !== 'uuid';
    const renamed = header.flatMap(({ name, place }) => {
      const column = place === null ? null : (locationColumns[place]?.name ?? null);
      return name === column ? [] : [[name, column] as const];
    });
    onHeader?.(text, { delimiter, columns: Object.fromEntries(renamed) });
  }
}

/** Reads locations from cells in the order of the table's columns. */
interface CellReader {
  readonly fromCells: (cells: unknown[] | Invalid) => LocationInput | Invalid;
  readonly placeOf: PlaceOf;
  readonly fallbacks: CsvLayout['fallbacks'];
}

function readerOfCells(options: ParseOptions): CellReader {
  const { defaults = {}, timeZone } = options;
  checkDefaults(defaults);
  const fallbacks = locationColumns.map(({ property }) => defaults[property as keyof LocationDefaults]);
  const readTime = timeZone === undefined ? undefined : timeReader(timeZone);
  const fromCells = (cells: unknown[] | Invalid) => {
    if (cells instanceof Invalid) return cells;
    if (readTime) cells[timePlace] = readTime(cells[timePlace]);
    return toLocation(cells, fallbacks);
  };
  return { fromCells, placeOf: placesOf(options), fallbacks };
}

function checkDefaults(defaults: LocationDefaults): void {
  for (const { property, check } of locationColumns) {
    const value = defaults[property as keyof LocationDefaults];
    const checked = value === undefined ? undefined : check(value);
    if (checked instanceof Invalid) throw new ValidationError(`${property} ${checked.reason}.`);
  }
}

// trim() is slow and needed only for the few lines that begin with whitespace.
const isBlank = (text: string) => text === '' || (text.charCodeAt(0) <= 32 && text.trim() === '');

interface HeaderCell {
  readonly name: string;
  /** Index of the column, or null if the cell is ignored. */
  readonly place: number | null;
}

function parseHeader(
  text: string,
  delimiter: string,
  placeOf: PlaceOf,
  defaults: LocationDefaults,
): HeaderCell[] {
  const cells = splitCsv(text, delimiter);
  if (cells instanceof Invalid) throw new ValidationError(`The header ${cells.reason}.`);
  const header = cells.map((cell) => {
    const name = cell.trim();
    const place = placeOf(name);
    if (place !== undefined) return { name, place };
    throw new ValidationError(
      `The first line should be a header of column names, separated by ${delimiters.map((one) => JSON.stringify(one)).join(' ')}; ` +
        `it says ${shorten(name)}. The columns are ${locationColumns.map((column) => column.name).join(', ')}: ` +
        'say which one is meant, as in --columns lat=latitude, or leave it out with an empty one, as in --columns battery=.',
    );
  });
  for (const { name, place } of header) {
    const twice = header.filter((one) => one.place === place);
    if (place === null || twice.length === 1) continue;
    throw new ValidationError(
      twice.every((one) => one.name === name)
        ? `The header names "${name}" twice.`
        : `The header has ${locationColumns[place]?.name} twice: ${twice.map((one) => one.name).join(', ')}. Leave one out with --columns.`,
    );
  }
  const missing = locationColumns.find(
    ({ property, required }, place) =>
      required && !header.some((one) => one.place === place) && !(property in defaults),
  );
  if (missing)
    throw new ValidationError(
      `The header has no "${missing.name}", and no option gives it (--device, --user, --app).`,
    );
  return header;
}

const timePlace = locationColumns.findIndex(({ name }) => name === 'time');
const numberPlaces = locationColumns.flatMap(({ type }, place) => (type === 'numeric' ? [place] : []));

/** Splits a row into cells, in the order of the table's columns. */
function csvCells(text: string, { width, places, delimiter }: CsvLayout): unknown[] | Invalid {
  const cells = splitCsv(text, delimiter);
  if (cells instanceof Invalid) return cells;
  if (cells.length !== width) return new Invalid(`has ${cells.length} of ${width} columns`);
  const ordered: unknown[] = places.map((place) => (place < 0 ? undefined : cells[place]));
  // If the comma is not the delimiter, it may be the decimal separator.
  if (delimiter !== ',') {
    for (const place of numberPlaces) {
      const cell = ordered[place];
      if (typeof cell === 'string' && /^\s*[+-]?\d*,\d+\s*$/.test(cell))
        ordered[place] = cell.replace(',', '.');
    }
  }
  return ordered;
}

function splitCsv(text: string, delimiter: string): string[] | Invalid {
  // csv-parse takes ten times as long as `split`, and only quotes need it.
  if (!text.includes('"')) return text.split(delimiter);
  try {
    // By default csv-parse would end the record at a carriage return and drop the rest.
    const [cells] = parseCsv(text, { record_delimiter: '\n', delimiter }) as string[][];
    return cells ?? [];
  } catch {
    return new Invalid('has a quote that does not close, or text after one');
  }
}

function jsonCells(text: string, placeOf: PlaceOf): unknown[] | Invalid {
  const row = parseJson(text);
  if (row instanceof Invalid) return row;
  if (typeof row !== 'object' || row === null || Array.isArray(row))
    return new Invalid('is not a JSON object');
  return orderCells(row as Readonly<Record<string, unknown>>, placeOf);
}

/** Puts named values in the order of the table's columns. */
function orderCells(named: Readonly<Record<string, unknown>>, placeOf: PlaceOf): unknown[] | Invalid {
  const cells = new Array<unknown>(locationColumns.length).fill(undefined);
  for (const name of Object.keys(named)) {
    const place = placeOf(name);
    if (place === undefined) return new Invalid(`has an unknown column ${shorten(name)}`);
    if (place === null) continue;
    if (cells[place] !== undefined) return new Invalid(`has ${locationColumns[place]?.name} twice`);
    cells[place] = named[name];
  }
  return cells;
}

function fromRow({ position, cells }: Row, { fromCells, placeOf }: CellReader): ParsedLocation {
  const location = fromCells(orderCells(cells, placeOf));
  const text = JSON.stringify(cells);
  return location instanceof Invalid
    ? { position, text, reason: location.reason }
    : { position, text, location };
}

/** @returns the location, or the reason why the cells are not valid. */
function toLocation(
  cells: readonly unknown[],
  fallbacks: readonly (string | undefined)[],
): LocationInput | Invalid {
  const location: Record<string, unknown> = { ...emptyLocation };
  for (const [place, { name, property, required, parse }] of locationColumns.entries()) {
    const cell = cells[place];
    if (cell !== undefined && cell !== null && cell !== '') {
      const value = parse(cell);
      if (value instanceof Invalid) return new Invalid(`${name} ${value.reason}`);
      location[property] = value;
    } else if (fallbacks[place] !== undefined) location[property] = fallbacks[place];
    else if (required) return new Invalid(`${name} is missing`);
  }
  return location as unknown as LocationInput;
}
