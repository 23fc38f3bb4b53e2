// Reads GPS locations from lines of CSV or NDJSON. An invalid line does not affect the others.
import { parse as parseCsv } from 'csv-parse/sync';
import { ValidationError } from '../../errors.ts';
import { Invalid, shorten } from '../column-types.ts';
import { emptyLocation, type LocationInput, locationColumns } from '../columns.ts';
import { splitLines } from './lines.ts';

export type LocationFormat = 'csv' | 'ndjson';

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
 * Reads locations in constant memory, one batch for each piece of the input. Blank lines and lines that begin
 * with `#` are skipped. CSV needs a header with column names of location_events, and a quoted field cannot
 * contain a line break. Times are cut to milliseconds, numbers are rounded to the scale of their column.
 * @param onHeader Receives the header line of CSV.
 * @throws ValidationError for a header that has an unknown or repeated column, lacks a required one or is not
 * UTF-8; for an invalid default; for a line that is too long.
 */
export async function* parseLocations(
  source: AsyncIterable<string | Uint8Array>,
  format: LocationFormat,
  defaults: LocationDefaults = {},
  onHeader?: (header: string) => void,
): AsyncGenerator<ParsedLocation[]> {
  checkDefaults(defaults);
  const fallbacks = locationColumns.map(({ property }) => defaults[property as keyof LocationDefaults]);
  let readRow: ((text: string) => LocationInput | Invalid) | undefined =
    format === 'ndjson' ? (text) => fromCells(jsonCells(text)) : undefined;
  const fromCells = (cells: unknown[] | Invalid) =>
    cells instanceof Invalid ? cells : toLocation(cells, fallbacks);
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
      } else {
        const header = parseHeader(text, defaults);
        const places = locationColumns.map(({ name }) => header.indexOf(name));
        readRow = (row) => fromCells(csvCells(row, header.length, places));
        // If the last column is a uuid, a cut is noticed anyway, because an incomplete uuid is not valid.
        mayEndEarly = locationColumns.find(({ name }) => name === header.at(-1))?.type !== 'uuid';
        onHeader?.(text);
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

function parseHeader(text: string, defaults: LocationDefaults): string[] {
  const cells = splitCsv(text);
  if (cells instanceof Invalid) throw new ValidationError(`The header ${cells.reason}.`);
  const names = cells.map((name) => name.trim());
  for (const name of names) {
    if (!knownNames.has(name)) {
      throw new ValidationError(
        `The first line should be a header of column names, separated by commas; it says ${shorten(name)}. ` +
          `The columns are ${[...knownNames].join(', ')}.`,
      );
    }
    if (names.indexOf(name) !== names.lastIndexOf(name)) {
      throw new ValidationError(`The header names "${name}" twice.`);
    }
  }
  const missing = locationColumns.find(
    ({ name, property, required }) => required && !names.includes(name) && !(property in defaults),
  );
  if (missing)
    throw new ValidationError(
      `The header has no "${missing.name}", and no option gives it (--device, --user, --app).`,
    );
  return names;
}

const knownNames: ReadonlySet<string> = new Set(locationColumns.map(({ name }) => name));

/** Returns the values of a line in the order of `locationColumns`. */
function csvCells(text: string, width: number, places: readonly number[]): unknown[] | Invalid {
  const cells = splitCsv(text);
  if (cells instanceof Invalid) return cells;
  if (cells.length !== width) return new Invalid(`has ${cells.length} of ${width} columns`);
  return places.map((place) => (place < 0 ? undefined : cells[place]));
}

function splitCsv(text: string): string[] | Invalid {
  // csv-parse takes ten times as long and is needed only for quotes.
  if (!text.includes('"')) return text.split(',');
  try {
    // By default, csv-parse would end the record at a carriage return and drop the rest.
    const [cells] = parseCsv(text, { record_delimiter: '\n' }) as string[][];
    return cells ?? [];
  } catch {
    return new Invalid('has a quote that does not close, or text after one');
  }
}

function jsonCells(text: string): unknown[] | Invalid {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    return new Invalid('is not valid JSON');
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row))
    return new Invalid('is not a JSON object');
  for (const name in row)
    if (!knownNames.has(name)) return new Invalid(`has an unknown column ${shorten(name)}`);
  const cells = row as Readonly<Record<string, unknown>>;
  return locationColumns.map(({ name }) => (Object.hasOwn(cells, name) ? cells[name] : undefined));
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
