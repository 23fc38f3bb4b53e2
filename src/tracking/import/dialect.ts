// Determines the format of a text, the delimiter of CSV, and the meaning of column names and of times without a zone.
import { TZDate } from '@date-fns/tz';
import { ValidationError } from '../../errors.ts';
import { splitTime } from '../column-types.ts';
import { locationColumns } from '../columns.ts';

export const locationFormats = ['csv', 'ndjson', 'geojson', 'gpx'] as const;
export type LocationFormat = (typeof locationFormats)[number];

export interface DialectOptions {
  /** Delimiter of the cells of CSV. Default: whichever of `,` `;` tab and `|` fits the header best. */
  delimiter?: string;
  /**
   * Maps names in the text to columns of location_events, or to null to ignore them. Column names and common names such
   * as `lat`, `lng`, `timestamp`, `ele` and `course` need no entry.
   */
  columns?: Readonly<Record<string, string | null>>;
  /** IANA time zone of times that are written without a zone. Default UTC. */
  timeZone?: string;
}

/** Tells the user how CSV is read. */
export interface DetectedDialect {
  delimiter: string;
  /** For each name in the header that differs from its column: the column, or null if the name is ignored. */
  columns: Readonly<Record<string, string | null>>;
}

export const delimiters = [',', ';', '\t', '|'] as const;

/** The names that other programs use for each column, in lower case without blanks and punctuation. */
const aliases: Readonly<Record<string, readonly string[]>> = {
  time: ['timestamp', 'datetime', 'date', 'gpstime', 'fixtime', 'recordedat', 'utc', 'timeutc'],
  device_id: ['device', 'trackerid'],
  user_id: ['user'],
  app_source: ['app', 'application', 'source'],
  latitude: ['lat', 'y'],
  longitude: ['lon', 'lng', 'long', 'x'],
  accuracy: ['acc', 'horizontalaccuracy', 'hacc'],
  altitude: ['alt', 'ele', 'elevation', 'height'],
  speed: ['velocity', 'speedkmh', 'kmh'],
  heading: ['course', 'bearing', 'direction'],
  metadata: ['meta', 'extra'],
};

const plainName = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '');

const places: ReadonlyMap<string, number> = new Map(
  locationColumns.flatMap(({ name }, place) =>
    [name, ...(aliases[name] ?? [])].map((known) => [plainName(known), place] as const),
  ),
);

/** Returns the index of the column for a name, null if the name is ignored, or undefined if it is unknown. */
export type PlaceOf = (name: string) => number | null | undefined;

/** @throws ValidationError for an entry of `columns` whose column does not exist. */
export function placesOf({ columns = {} }: DialectOptions): PlaceOf {
  const chosen = new Map<string, number | null>();
  for (const [name, column] of Object.entries(columns)) {
    const place = column === null ? null : locationColumns.findIndex((one) => one.name === column);
    if (place === -1) {
      throw new ValidationError(
        `There is no column "${column}" for "${name}": the columns are ${locationColumns.map((one) => one.name).join(', ')}.`,
      );
    }
    chosen.set(name, place);
  }
  const known = new Map<string, number | null | undefined>();
  return (name) => {
    if (!known.has(name)) {
      const place = chosen.get(name);
      known.set(name, place === undefined ? places.get(plainName(name)) : place);
    }
    return known.get(name);
  };
}

/** Returns the delimiter that gives the header the most known columns or, in a tie, the most cells. */
export function detectDelimiter(header: string, placeOf: PlaceOf): string {
  const scores = delimiters.map((delimiter) => {
    const cells = header.split(delimiter).map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'));
    return {
      delimiter,
      score: cells.filter((cell) => placeOf(cell) !== undefined).length + cells.length / 1000,
    };
  });
  return scores.reduce((best, one) => (one.score > best.score ? one : best)).delimiter;
}

/**
 * Returns a function that turns a time without a zone, such as `2026-01-02 03:04:05`, into an ISO text in UTC. The time
 * is taken as a local time in `timeZone`.
 */
export function timeReader(timeZone: string): (cell: unknown) => unknown {
  try {
    new Intl.DateTimeFormat('en', { timeZone });
  } catch {
    throw new ValidationError(`There is no time zone "${timeZone}": use an IANA name, such as Europe/Rome.`);
  }
  return (cell) => {
    if (typeof cell !== 'string') return cell;
    const time = splitTime(cell.trim());
    if (!time || time.zone) return cell;
    const parts = [time.year, time.month, time.day, time.hour, time.minute, time.second].map(Number);
    const [year = 0, month = 1, day = 0, hour = 0, minute = 0, second = 0] = parts;
    const local = new TZDate(year, month - 1, day, hour, minute, second, timeZone);
    local.setMilliseconds(Number(time.millisecond));
    const read = [local.getFullYear(), local.getMonth() + 1, local.getDate()];
    read.push(local.getHours(), local.getMinutes(), local.getSeconds());
    // For the 30th of February, or an hour that summer time skips, this text makes the column refuse the cell.
    if (read.some((value, index) => value !== parts[index])) return `${cell} (not a time of ${timeZone})`;
    return new Date(local.getTime()).toISOString();
  };
}

/** Detects the format by the extension of the file name, or by the beginning of the text. */
export function detectFormat(beginning: string, name: string): LocationFormat {
  const extension = /\.([a-z]+)$/i.exec(name.replace(/\.gz$/i, ''))?.[1]?.toLowerCase() ?? '';
  const text = beginning.replace(/^\uFEFF/, '').trimStart();
  if (extension === 'gpx' || text.startsWith('<')) return 'gpx';
  const isCollection = /^\{\s*"(?:[^"]+"\s*:\s*"[^"]*"\s*,\s*")*type"\s*:\s*"Feature(?:Collection)?"/.test(
    text,
  );
  if (extension === 'geojson' || isCollection || /^\{[^\n]*"FeatureCollection"/.test(text)) return 'geojson';
  if (text.startsWith('{') || ['ndjson', 'jsonl', 'json'].includes(extension)) return 'ndjson';
  return 'csv';
}
