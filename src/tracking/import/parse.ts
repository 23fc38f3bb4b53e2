// Reads GPS locations from CSV, NDJSON, GeoJSON and GPX. An invalid location does not affect the others.
import { parse as parseCsv } from 'csv-parse/sync';
import { ValidationError } from '../../errors.ts';
import { Invalid, shorten } from '../column-types.ts';
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
import { splitLines } from './lines.ts';

export interface ParseOptions extends DialectOptions {
  /** Values for rows where the input has none. */
  defaults?: LocationDefaults | undefined;
  /** Called with the header line of CSV before any row, and with how it is read. */
  onHeader?: ((header: string, dialect: DetectedDialect) => void) | undefined;
}

/** Values for rows in which the input has none. */
export type LocationDefaults = Partial<Pick<LocationInput, 'deviceId' | 'userId' | 'appSource'>>;

export interface ImportReject {
  /** Line of the text, from 1, or index among the locations, from 0. */
  position: number;
  reason: string;
  /** The line as it was. Absent for locations that were not text. */
  text?: string;
  /** The bytes of a line that is not UTF-8. In `text`, U+FFFD replaces what cannot be decoded. */
  bytes?: Uint8Array;
}

/** A location that the columns can hold, or the reason why the input is not one. */
export type ParsedLocation =
  | {
      readonly position: number;
      readonly text?: string;
      readonly location: LocationInput;
      /** The CSV ends with a digit or a point and no line break, so digits may be missing. */
      readonly mayBeCut?: true;
    }
  | ImportReject;

/**
 * Reads locations in constant memory, a batch for each piece of the input. In CSV and NDJSON, blank lines and lines
 * that begin with `#` are skipped. CSV needs a header of column names; a quoted field may not hold a line break. Digits
 * of a time after milliseconds are cut off; numbers are rounded to the scale of their column.
 * @throws ValidationError for a header with an unknown, double or missing column, and for text that is not the format.
 */
export async function* parseLocations(
  source: AsyncIterable<string | Uint8Array>,
  format: LocationFormat,
  options: ParseOptions = {},
): AsyncGenerator<ParsedLocation[]> {
  const { defaults = {}, onHeader } = options;
  checkDefaults(defaults);
  const fallbacks = locationColumns.map(({ property }) => defaults[property as keyof LocationDefaults]);
  const placeOf = placesOf(options);
  const readTime = options.timeZone === undefined ? undefined : timeReader(options.timeZone);
  const fromCells = (cells: unknown[] | Invalid) => {
    if (cells instanceof Invalid) return cells;
    if (readTime) cells[timePlace] = readTime(cells[timePlace]);
    return toLocation(cells, fallbacks);
  };
  if (format === 'gpx' || format === 'geojson') {
    // Loaded when needed, with its library.
    const rows =
      format === 'gpx'
        ? (await import('./gpx.ts')).readGpx(source)
        : (await import('./geojson.ts')).readGeoJson(source);
    for await (const batch of rows) yield batch.map((row) => fromRow(row, fromCells, placeOf));
    return;
  }
  let { delimiter } = options;
  let readRow: ((text: string) => LocationInput | Invalid) | undefined =
    format === 'ndjson' ? (text) => fromCells(jsonCells(text, placeOf)) : undefined;
  let mayEndEarly = false;
  let position = 0;
  for await (const { texts, broken, isUnended } of splitLines(source)) {
    const parsed: ParsedLocation[] = [];
    for (const [index, original] of texts.entries()) {
      position += 1;
      const text = position === 1 ? original.replace(/^\uFEFF/, '') : original;
      if (text.startsWith('#') || isBlank(text)) continue;
      const bytes = broken?.get(index);
      if (bytes && !readRow) throw new ValidationError('The header is not UTF-8.');
      if (bytes) parsed.push({ position, text: original, reason: 'is not UTF-8', bytes });
      else if (readRow) {
        const location = readRow(text);
        if (location instanceof Invalid) parsed.push({ position, text: original, reason: location.reason });
        else {
          const mayBeCut = isUnended && mayEndEarly && /[\d.]$/.test(text);
          parsed.push({ position, text: original, location, ...(mayBeCut && { mayBeCut: true as const }) });
        }
      } else if (/^sep=.$/i.test(text)) {
        // Excel's own line.
        delimiter ??= text.slice(4);
      } else {
        const separator = delimiter ?? detectDelimiter(text, placeOf);
        const header = parseHeader(text, separator, placeOf, defaults);
        const places = locationColumns.map((_, place) => header.findIndex((one) => one.place === place));
        readRow = (row) => fromCells(csvCells(row, header.length, places, separator));
        // A uuid that was cut is not valid.
        mayEndEarly = locationColumns[header.at(-1)?.place ?? -1]?.type !== 'uuid';
        const renamed = header.flatMap(({ name, place }) => {
          const column = place === null ? null : (locationColumns[place]?.name ?? null);
          return name === column ? [] : [[name, column] as const];
        });
        onHeader?.(text, { delimiter: separator, columns: Object.fromEntries(renamed) });
      }
    }
    if (parsed.length > 0) yield parsed;
  }
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
  /** Among the columns; null: left out. */
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

/** The values in the order of the table's columns. */
function csvCells(
  text: string,
  width: number,
  places: readonly number[],
  delimiter: string,
): unknown[] | Invalid {
  const cells = splitCsv(text, delimiter);
  if (cells instanceof Invalid) return cells;
  if (cells.length !== width) return new Invalid(`has ${cells.length} of ${width} columns`);
  const ordered: unknown[] = places.map((place) => (place < 0 ? undefined : cells[place]));
  // Where a comma does not separate cells, it is the decimal point of half of the world.
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
  // csv-parse takes ten times as long, and only quotes need it.
  if (!text.includes('"')) return text.split(delimiter);
  try {
    // By default it would take a carriage return as the end of the record and drop the rest.
    const [cells] = parseCsv(text, { record_delimiter: '\n', delimiter }) as string[][];
    return cells ?? [];
  } catch {
    return new Invalid('has a quote that does not close, or text after one');
  }
}

function jsonCells(text: string, placeOf: PlaceOf): unknown[] | Invalid {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    return new Invalid('is not valid JSON');
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row))
    return new Invalid('is not a JSON object');
  return orderCells(row as Readonly<Record<string, unknown>>, placeOf);
}

/** Named values in the order of the table's columns. */
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

/** A row of GPX or GeoJSON; refused, its text is a line of NDJSON. */
function fromRow(
  { position, cells }: Row,
  fromCells: (cells: unknown[] | Invalid) => LocationInput | Invalid,
  placeOf: PlaceOf,
): ParsedLocation {
  const location = fromCells(orderCells(cells, placeOf));
  const text = JSON.stringify(cells);
  return location instanceof Invalid
    ? { position, text, reason: location.reason }
    : { position, text, location };
}

/** @returns the location, or the reason why the cells are not one. */
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
