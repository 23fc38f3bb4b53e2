// Reads GPS points from lines of CSV or NDJSON. Each line stands for itself: a broken one harms no other.
import { parse as parseCsv } from 'csv-parse/sync';
import { ValidationError } from '../../errors.ts';
import { isUuid, type LocationColumn, type LocationInput, locationColumns } from '../columns.ts';
import { checkAppSource, checkMetadata, checkNumber, readNumber } from '../validate.ts';
import { splitLines } from './lines.ts';

export type LocationFormat = 'csv' | 'ndjson';

/** What rows get where the input says nothing. */
export type LocationDefaults = Partial<Pick<LocationInput, 'deviceId' | 'userId' | 'appSource'>>;

/** A line that holds a point, or one that does not and why. */
export type ParsedLine =
  | {
      readonly line: number;
      readonly text: string;
      readonly event: LocationInput;
      /** CSV that ends inside a number, without a line break: digits may be missing. */
      readonly mayBeCut?: boolean;
    }
  | {
      readonly line: number;
      readonly text: string;
      readonly reason: string;
      /** The line as it stood, where `text` cannot say it: it is no UTF-8. */
      readonly bytes?: Uint8Array;
    };

type RawRow = Readonly<Record<string, unknown>>;

/**
 * Reads points in flat memory, as many at once as a piece of the input holds. Blank lines and lines
 * that begin with `#` are skipped. CSV needs a header of column names of location_events; a quoted
 * field may not hold a line break. Times are read to the millisecond, further digits are cut off; numbers
 * are rounded to what their column keeps.
 * @param onHeader receives the CSV header line as it stood.
 * @throws ValidationError for a header with an unknown, double or missing column.
 */
export async function* parseLocations(
  source: AsyncIterable<string | Uint8Array>,
  format: LocationFormat,
  defaults: LocationDefaults = {},
  onHeader?: (header: string) => void,
): AsyncGenerator<ParsedLine[]> {
  checkDefaults(defaults);
  const fallbacks = locationColumns.map(({ property }) => defaults[property as keyof LocationDefaults]);
  let readRow: ((text: string) => LocationInput) | undefined =
    format === 'ndjson' ? (text) => toEvent(jsonCells(text), fallbacks) : undefined;
  let endsInNumber = false;
  let line = 0;
  for await (const { texts, broken, isUnended } of splitLines(source)) {
    const parsed: ParsedLine[] = [];
    for (const [index, original] of texts.entries()) {
      line += 1;
      const text = line === 1 ? original.replace(/^\uFEFF/, '') : original;
      if (text.startsWith('#') || isBlank(text)) continue;
      const bytes = broken?.get(index);
      if (bytes && !readRow) throw new ValidationError('The header is not UTF-8.');
      if (bytes) parsed.push({ line, text: original, reason: 'is not UTF-8', bytes });
      else if (readRow) {
        const read = readLine(line, original, text, readRow);
        parsed.push(isUnended && endsInNumber ? { ...read, mayBeCut: /[\d.]$/.test(text) } : read);
      } else {
        const header = parseHeader(text, defaults);
        const places = locationColumns.map(({ name }) => header.indexOf(name));
        readRow = (row) => toEvent(csvCells(row, header.length, places), fallbacks);
        const last = locationColumns.find(({ name }) => name === header.at(-1));
        endsInNumber = last?.type === 'numeric' || last?.type === 'timestamptz';
        onHeader?.(text);
      }
    }
    if (parsed.length > 0) yield parsed;
  }
}

function checkDefaults({ deviceId, userId, appSource }: LocationDefaults): void {
  for (const [name, value] of Object.entries({ deviceId, userId })) {
    if (value !== undefined && !isUuid(value))
      throw new ValidationError(`${name} is "${value}": use a uuid.`);
  }
  const reason = appSource === undefined ? undefined : checkAppSource(appSource);
  if (reason !== undefined) throw new ValidationError(`appSource ${reason}.`);
}

// A point begins with no blank: only then the whole line is looked at.
const isBlank = (text: string) => text === '' || (text.charCodeAt(0) <= 32 && text.trim() === '');

function readLine(
  line: number,
  original: string,
  text: string,
  readRow: (text: string) => LocationInput,
): ParsedLine {
  try {
    return { line, text: original, event: readRow(text) };
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    return { line, text: original, reason: error.message };
  }
}

/** Quotes a value for a message: escaped, because it may be binary, and short. */
const shorten = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);

/** Why a line is not a point. Never leaves this file. */
class Unfit extends Error {}

function parseHeader(text: string, defaults: LocationDefaults): string[] {
  const names = headerCells(text).map((name) => name.trim());
  const known = locationColumns.map(({ name }) => name);
  for (const name of names) {
    if (!known.includes(name)) {
      throw new ValidationError(
        `The first line should be a header of column names, separated by commas; it says ${shorten(name)}. ` +
          `The columns are ${known.join(', ')}.`,
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

function headerCells(text: string): string[] {
  try {
    return splitCsv(text);
  } catch (error) {
    throw new ValidationError(`The header ${(error as Error).message}.`);
  }
}

/** The values in the order of the table's columns. */
function csvCells(text: string, width: number, places: readonly number[]): unknown[] {
  const cells = splitCsv(text);
  if (cells.length !== width) throw new Unfit(`has ${cells.length} of ${width} columns`);
  return places.map((place) => (place < 0 ? undefined : cells[place]));
}

function splitCsv(text: string): string[] {
  // The general parser costs ten times as much, and only quotes need it.
  if (!text.includes('"')) return text.split(',');
  try {
    // By itself it would take a carriage return for the end of the record, and drop what follows.
    const [cells] = parseCsv(text, { record_delimiter: '\n' }) as string[][];
    return cells ?? [];
  } catch {
    throw new Unfit('has a quote that does not close, or text after one');
  }
}

function jsonCells(text: string): unknown[] {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    throw new Unfit('is not valid JSON');
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row)) throw new Unfit('is not a JSON object');
  for (const name in row) if (!names.has(name)) throw new Unfit(`has an unknown column ${shorten(name)}`);
  const cells = row as RawRow;
  return locationColumns.map(({ name }) => (Object.hasOwn(cells, name) ? cells[name] : undefined));
}

const names = new Set(locationColumns.map(({ name }) => name));

/** In the order of the table's columns, as are the cells. */
function toEvent(cells: readonly unknown[], fallbacks: readonly (string | undefined)[]): LocationInput {
  const read = (place: number): unknown => {
    const value = cells[place];
    const column = locationColumns[place] as LocationColumn;
    if (value !== undefined && value !== null && value !== '') return readValue(column, value);
    const fallback = fallbacks[place];
    if (fallback !== undefined) return fallback;
    if (column.required) throw new Unfit(`${column.name} is missing`);
    return null;
  };
  // Written out: the objects of a hundred thousand lines then share one shape.
  return {
    time: read(0),
    deviceId: read(1),
    userId: read(2),
    appSource: read(3),
    latitude: read(4),
    longitude: read(5),
    accuracy: read(6),
    altitude: read(7),
    speed: read(8),
    heading: read(9),
    metadata: read(10),
  } as LocationInput;
}

function readValue(column: LocationColumn, value: unknown): unknown {
  const { name, type } = column;
  if (type === 'numeric') return readDecimal(column, value);
  if (type === 'jsonb') return readMetadata(value);
  if (typeof value !== 'string')
    throw new Unfit(`${name} is not text: ${JSON.stringify(value).slice(0, 60)}`);
  if (type === 'timestamptz') return readPlainTime(value) ?? readTime(value.trim());
  const text = value.trim();
  if (type === 'uuid') return readUuid(name, text);
  const reason = checkAppSource(text);
  if (reason !== undefined) throw new Unfit(`${name} ${reason}`);
  return text;
}

function readDecimal(column: LocationColumn, value: unknown): number | null {
  const { name } = column;
  const number =
    typeof value === 'number' ? value : typeof value === 'string' ? toNumber(value.trim()) : Number.NaN;
  if (!Number.isFinite(number)) throw new Unfit(`${name} is not a number: ${shorten(String(value).trim())}`);
  const rounded = readNumber(column, number);
  if (Number.isNaN(rounded)) throw new Unfit(`${name} ${checkNumber(column, number)}`);
  return rounded;
}

/** Decimal, as PostgreSQL reads it: Number would take an empty text, and 0x, 0o and 0b. */
const toNumber = (text: string): number => (text === '' || /^0[xob]/i.test(text) ? Number.NaN : Number(text));

/** Digits of `2026-01-02T03:04:05Z` and `2026-01-02T03:04:05.678Z`, which most files have. */
const plainTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z$/;

/** An ordinary time in UTC, undefined for everything that needs a closer look. */
function readPlainTime(text: string): Date | undefined {
  if (!plainTime.test(text)) return undefined;
  const time = new Date(text);
  // The 30th of February would have become March, as would a day 00 or an hour 24.
  return time.getUTCDate() === Number(text.slice(8, 10)) && time.getUTCFullYear() > 0 ? time : undefined;
}

// A time without a zone is UTC, as everywhere. Date alone would turn the 30th of February into March.
function readTime(text: string): Date {
  const match = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d(?::?\d\d)?)?$/i.exec(
    text,
  );
  if (!match) throw new Unfit(`time is not ISO 8601: ${shorten(text)}`);
  const [, year, month, day, clock, zone = 'Z'] = match;
  const offset = /^[+-]/.test(zone)
    ? zone.replace(/^(...):?(\d\d)?$/, (_, hours, minutes = '00') => `${hours}:${minutes}`)
    : 'Z';
  const date = new Date(`${year}-${month}-${day}T${clock}${offset}`);
  const exists =
    new Date(Date.UTC(Number(year), Number(month) - 1, Number(day))).getUTCDate() === Number(day);
  if (Number.isNaN(date.getTime()) || !exists || date.getUTCFullYear() < 1 || date.getUTCFullYear() > 9999)
    throw new Unfit(`time does not exist: ${shorten(text)}`);
  return date;
}

function readUuid(name: string, text: string): string {
  if (!isUuid(text)) throw new Unfit(`${name} is not a uuid: ${shorten(text)}`);
  return text;
}

function readMetadata(value: unknown): unknown {
  const metadata = typeof value === 'string' ? parseJson(value) : value;
  const reason = checkMetadata(metadata);
  if (reason !== undefined) throw new Unfit(`metadata ${reason}`);
  return metadata;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Unfit('metadata is not valid JSON');
  }
}
