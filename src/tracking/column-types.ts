// Checks values of each PostgreSQL type, reads them from text, and encodes them for the server.
import { isUuid } from '../sql/uuid.ts';
import type { CopyBuffer } from './copy-buffer.ts';
import { equals, isPlainText, readDecimal, readTime } from './plain-cells.ts';

/** Means that a column cannot hold a value. `reason` continues a sentence that begins with the column's name. */
export class Invalid {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Restricts the values that the type of a column would accept. */
export interface ColumnLimits {
  readonly min?: number;
  readonly max?: number;
  /** A number that means "unknown". It is stored as NULL. */
  readonly unknown?: number;
  readonly oneOf?: readonly string[];
}

export interface ColumnType<Value = unknown> {
  /** PostgreSQL's name of the type, without precision. */
  readonly type: string;
  /** Maximum size of a value in binary COPY, in bytes, with its length field. For jsonb, without the text. */
  readonly bytes: number;
  /** Returns the value to store, null if `value` means "unknown", or Invalid. `value` must not be null. */
  check(value: unknown): Value | null | Invalid;
  /** Reads a cell of CSV, GPX or a JSON format. Returns what `check` returns. */
  parse(cell: unknown): Value | null | Invalid;
  /** Encodes a value as an element of an array literal. */
  toElement(value: Value): string | number;
  /** Writes a value in binary COPY format, with its length. */
  encode(buffer: CopyBuffer, value: Value): void;
  /**
   * Parses and encodes a plain cell of CSV that is not empty, without creating a string. Returns false if the cell is
   * not plain (see plain-cells.ts) or not valid. The buffer may then contain a part of the value.
   */
  copyCell(buffer: CopyBuffer, bytes: Buffer, start: number, end: number): boolean;
}

/** @param sqlType The type with its precision, such as `numeric(10, 8)`. */
export function columnType(sqlType: string, limits: ColumnLimits): ColumnType {
  const [type = '', first = 0, second = 0] = sqlType
    .split(/[(,)]/)
    .map((part, at) => (at ? Number(part) : part));
  const [size, scale] = [Number(first), Number(second)];
  switch (type) {
    case 'timestamp with time zone':
      return timestamptz;
    case 'uuid':
      return uuid;
    case 'varchar':
      return varchar(size, limits);
    case 'numeric':
      return numeric(size, scale, limits);
    case 'smallint':
      return integer(type, 2, limits);
    case 'integer':
      return integer(type, 4, limits);
    case 'jsonb':
      return jsonb;
    default:
      throw new TypeError(
        `Locations cannot be written to a column of type ${sqlType}: add it to column-types.ts.`,
      );
  }
}

const invalid = (reason: string) => new Invalid(reason);
/** Quotes a text for a message. Escapes the text, because it may be binary, and cuts it after 60 characters. */
export const shorten = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
const quoteElement = (text: string) => `"${text.replace(/[\\"]/g, '\\$&')}"`;

/** Trims a cell and reads it. A cell that is not text is invalid. */
function parseText<Value>(cell: unknown, read: (text: string) => Value): Value | Invalid {
  if (typeof cell === 'string') return read(cell.trim());
  return invalid(`is not text: ${JSON.stringify(cell).slice(0, 60)}`);
}

const timestamptz: ColumnType<Date> = {
  type: 'timestamptz',
  bytes: 12,
  // A copy, because the caller may change their Date later.
  check: (value) =>
    value instanceof Date && !Number.isNaN(value.getTime())
      ? new Date(value)
      : invalid('is not a valid Date'),
  parse: (cell) =>
    (typeof cell === 'string' && parsePlainTime(cell)) || parseText(epochText(cell), parseTime),
  toElement: (time) => time.toISOString(),
  encode(buffer, time) {
    encodeTime(buffer, time.getTime());
  },
  copyCell(buffer, bytes, start, end) {
    const time = readTime(bytes, start, end);
    if (Number.isNaN(time)) return false;
    encodeTime(buffer, time);
    return true;
  },
};

/** @param time in milliseconds since 1970. */
export function encodeTime(buffer: CopyBuffer, time: number): void {
  buffer.int32(8);
  buffer.int64((time - postgresEpoch) * 1000);
}

/** Binary timestamptz counts microseconds from 2000-01-01. */
const postgresEpoch = Date.UTC(2000, 0, 1);
/** Matches `2026-01-02T03:04:05Z` and `2026-01-02T03:04:05.678Z`, the formats of most files. */
const plainTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z$/;

/** Reads the formats of `plainTime` fast. Returns undefined for a text that `parseTime` has to check. */
function parsePlainTime(text: string): Date | undefined {
  if (!plainTime.test(text)) return undefined;
  const time = new Date(text);
  // Date turns the 30th of February into the 2nd of March, and hour 24 into the next day.
  return time.getUTCDate() === Number(text.slice(8, 10)) && time.getUTCFullYear() > 0 ? time : undefined;
}

/** Converts a number in JSON, which means seconds or milliseconds since 1970, to text. */
const epochText = (cell: unknown) => (typeof cell === 'number' ? String(cell) : cell);

/** Reads seconds (10 digits) or milliseconds (13 digits) since 1970. Both cover the years 2001 to 2286. */
function parseEpoch(text: string): Date | undefined {
  const [, milliseconds] = /^(\d{13})(?:\.\d+)?$/.exec(text) ?? [];
  if (milliseconds) return new Date(Number(milliseconds));
  const [, seconds, fraction = ''] = /^(\d{10})(?:\.(\d+))?$/.exec(text) ?? [];
  // By digits: 1095903970.590 * 1000 is less than 1095903970590.
  return seconds ? new Date(Number(seconds + fraction.slice(0, 3).padEnd(3, '0'))) : undefined;
}

interface TimeParts {
  year: string;
  month: string;
  day: string;
  hour: string;
  minute: string;
  second?: string;
  fraction?: string;
  zone?: string;
}

const isoTime =
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[T ](?<hour>\d\d):(?<minute>\d\d)(?::(?<second>\d\d)(?:\.(?<fraction>\d+))?)?(?<zone>Z|[+-]\d\d(?::?\d\d)?)?$/i;

/** Splits ISO 8601, also the compact form `20260126T051011Z`. Parts may be out of range. */
export function splitTime(text: string) {
  const compact = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?=\D|$)/i;
  const parts = isoTime.exec(text.replace(compact, '$1-$2-$3T$4:$5:$6'))?.groups as TimeParts | undefined;
  if (!parts) return undefined;
  const { second = '00', fraction = '' } = parts;
  return { ...parts, second, millisecond: fraction.slice(0, 3).padEnd(3, '0') };
}

/** Reads ISO 8601 or an epoch. A time without a zone is UTC. */
export function parseTime(text: string): Date | Invalid {
  const epoch = parseEpoch(text);
  if (epoch) return epoch;
  const parts = splitTime(text);
  if (!parts) return invalid(`is not ISO 8601: ${shorten(text)}`);
  const { year, month, day, hour, minute, second, millisecond, zone = 'Z' } = parts;
  const offset = /^[+-]/.test(zone)
    ? zone.replace(/^(...):?(\d\d)?$/, (_, hours, minutes = '00') => `${hours}:${minutes}`)
    : 'Z';
  // Never more than three decimals: Date reads .0008000000 as 8 milliseconds.
  const date = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${millisecond}${offset}`);
  // Date alone turns the 30th of February into a day of March.
  const exists =
    new Date(Date.UTC(Number(year), Number(month) - 1, Number(day))).getUTCDate() === Number(day);
  if (Number.isNaN(date.getTime()) || !exists || date.getUTCFullYear() < 1 || date.getUTCFullYear() > 9999)
    return invalid(`does not exist: ${shorten(text)}`);
  return date;
}

const uuid: ColumnType<string> = {
  type: 'uuid',
  bytes: 20,
  check: (value) => (isUuid(value) ? value : invalid('is not a uuid')),
  parse: (cell) =>
    parseText(cell, (text) => (isUuid(text) ? text : invalid(`is not a uuid: ${shorten(text)}`))),
  toElement: (text) => text,
  encode(buffer, text) {
    buffer.int32(16);
    buffer.uuid(text);
  },
  copyCell(buffer, bytes, start, end) {
    buffer.int32(16);
    return end - start === 36 && buffer.uuidFrom(bytes, start);
  },
};

function varchar(characters: number, { oneOf }: ColumnLimits): ColumnType<string> {
  const known = oneOf?.map((text) => Buffer.from(text));
  const check = (value: unknown) => {
    if (oneOf) {
      return oneOf.some((one) => one === value)
        ? (value as string)
        : invalid(`is not one of ${oneOf.join(', ')}`);
    }
    if (typeof value !== 'string') return invalid('is not text');
    if (value.length > characters && [...value].length > characters)
      return invalid(`is longer than ${characters} characters`);
    const isStorable = !value.includes('\0') && !/\p{Surrogate}/u.test(value);
    return isStorable ? value : invalid('has a character that PostgreSQL cannot hold');
  };
  return {
    type: 'varchar',
    bytes: 4 + characters * 4,
    check,
    parse: (cell) => parseText(cell, check),
    // The values of `oneOf` need no quotes.
    toElement: oneOf ? (text) => text : quoteElement,
    encode: (buffer, text) => buffer.text(text),
    copyCell(buffer, bytes, start, end) {
      const isValid = known
        ? known.some((text) => equals(bytes, start, end, text))
        : end - start <= characters && isPlainText(bytes, start, end);
      if (isValid) buffer.bytesFrom(bytes, start, end);
      return isValid;
    },
  };
}

/** Returns what all types of numbers have in common. Numbers are rounded to `scale` decimal places. */
function numbers(
  scale: number,
  { min, max, unknown }: { min: number; max: number; unknown?: number },
  encode: ColumnType<number>['encode'],
): Omit<ColumnType<number>, 'type' | 'bytes'> {
  const round = rounding(scale);
  const check = (value: unknown) => {
    if (typeof value !== 'number') return invalid('is not a number');
    if (value === unknown) return null;
    const number = round(value);
    if (number >= min && number <= max) return number;
    return invalid(
      Number.isFinite(value) ? `is ${value}, not from ${min} to ${max}` : 'is not a finite number',
    );
  };
  const parse = (cell: unknown) => {
    const number = typeof cell === 'string' ? toNumber(cell.trim()) : cell;
    return Number.isFinite(number)
      ? check(number)
      : invalid(`is not a number: ${shorten(String(cell).trim())}`);
  };
  return {
    check,
    parse,
    toElement: (value) => value,
    encode,
    copyCell(buffer, bytes, start, end) {
      // `readDecimal` returns NaN for a cell that is not plain, and `check` refuses NaN.
      const number = check(readDecimal(bytes, start, end));
      if (number instanceof Invalid) return false;
      if (number === null) buffer.null();
      else encode(buffer, number);
      return true;
    },
  };
}

/** Reads decimal numbers only: `Number` also accepts an empty text and the prefixes 0x, 0o and 0b. */
const toNumber = (text: string): number => (text === '' || /^0[xob]/i.test(text) ? Number.NaN : Number(text));

/** Rounds as `toFixed` does, but three times as fast unless the value is near a half. */
export function rounding(scale: number): (value: number) => number {
  const factor = 10 ** scale;
  return (value) => {
    const scaled = value * factor;
    const fraction = scaled - Math.floor(scaled);
    // Up to 1e11, which no column exceeds, the error of the product is below 1e-5.
    const nearHalf = fraction > 0.4999 && fraction < 0.5001;
    const rounded =
      nearHalf || Math.abs(scaled) > 1e11 ? Number(value.toFixed(scale)) : Math.round(scaled) / factor;
    // NUMERIC has no -0.
    return rounded + 0;
  };
}

function numeric(precision: number, scale: number, limits: ColumnLimits): ColumnType<number> {
  const factor = 10 ** scale;
  const most = (10 ** precision - 1) / factor;
  // Binary NUMERIC has groups of four decimal digits, counted from the decimal point in both directions.
  const wholeGroups = Math.max(1, Math.ceil((precision - scale) / 4));
  const fractionGroups = Math.ceil(scale / 4);
  const groups = wholeGroups + fractionGroups;
  const padding = 10 ** (fractionGroups * 4 - scale);
  const firstWhole = 10_000 ** (wholeGroups - 1);
  const firstFraction = 10_000 ** (fractionGroups - 1);
  // Writes the length, the number of groups, the weight of the first group, the sign, the scale and the groups.
  const encode = (buffer: CopyBuffer, value: number) => {
    const units = Math.round(Math.abs(value) * factor);
    const whole = Math.floor(units / factor);
    buffer.int32(8 + groups * 2);
    buffer.int16(groups);
    buffer.int16(wholeGroups - 1);
    buffer.int16(value < 0 ? 0x4000 : 0);
    buffer.int16(scale);
    writeGroups(buffer, whole, firstWhole);
    if (scale > 0) writeGroups(buffer, (units - whole * factor) * padding, firstFraction);
  };
  return {
    type: 'numeric',
    bytes: 12 + groups * 2,
    ...numbers(scale, { min: -most, max: most, ...limits }, encode),
  };
}

function writeGroups(buffer: CopyBuffer, value: number, first: number): void {
  let rest = value;
  for (let unit = first; unit > 1; unit /= 10_000) {
    const group = Math.floor(rest / unit);
    buffer.int16(group);
    rest -= group * unit;
  }
  buffer.int16(rest);
}

function integer(type: string, bytes: 2 | 4, limits: ColumnLimits): ColumnType<number> {
  const bound = 2 ** (bytes * 8 - 1);
  const encode = (buffer: CopyBuffer, value: number) => {
    buffer.int32(bytes);
    if (bytes === 2) buffer.int16(value);
    else buffer.int32(value);
  };
  return { type, bytes: 4 + bytes, ...numbers(0, { min: -bound, max: bound - 1, ...limits }, encode) };
}

/** PostgreSQL parses jsonb recursively. Values that are nested much deeper exceed its stack limit. */
const maxDepth = 1_000;

const jsonb: ColumnType<object> = {
  type: 'jsonb',
  bytes: 5,
  check(value) {
    const text = toJson(value);
    return text instanceof Invalid ? text : JSON.parse(text);
  },
  parse(cell) {
    const value = typeof cell === 'string' ? parseJson(cell) : cell;
    const text = value instanceof Invalid ? value : toJson(value);
    return text instanceof Invalid ? text : (value as object);
  },
  toElement: (value) => quoteElement(JSON.stringify(value)),
  encode: (buffer, value) => buffer.jsonb(JSON.stringify(value)),
  // In CSV, a JSON object is quoted and hence not plain.
  copyCell: () => false,
};

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return invalid('is not valid JSON');
  }
}

function toJson(value: unknown): string | Invalid {
  try {
    if (!isPlainObject(value)) return invalid('is not a JSON object');
    const text = JSON.stringify(value);
    if (!text?.startsWith('{')) return invalid('is not a JSON object');
    if (text.length > maxDepth && depthOf(text) > maxDepth)
      return invalid(`is nested more than ${maxDepth} deep`);
    // JSON can contain NUL characters and lone surrogates as escapes, but jsonb refuses them.
    return /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/i.test(text)
      ? invalid('has a character that jsonb cannot hold')
      : text;
  } catch {
    return invalid('cannot be written as JSON');
  }
}

/** Excludes objects that JSON would change: a Map or an Error into {}, a Date into a string. */
function isPlainObject(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

function depthOf(json: string): number {
  let depth = 0;
  let deepest = 0;
  for (const [bracket] of json.replace(/"(?:[^"\\]|\\.)*"/g, '').matchAll(/[[\]{}]/g)) {
    depth += bracket === '[' || bracket === '{' ? 1 : -1;
    deepest = Math.max(deepest, depth);
  }
  return deepest;
}
