// Checks GPS points once, where they enter: what passes is stored as it is, what does not has a reason.
import { locationSources, trackingPolicies } from '../../schema/tracking.ts';
import { ValidationError } from '../errors.ts';
import { isUuid, type LocationColumn, type LocationInput, locationColumns } from './columns.ts';
import { milliseconds } from './interval.ts';

/** Clocks of devices run ahead a little; what lies further in the future is a wrong clock. Milliseconds. */
const futureTolerance = 5 * 60_000;
const rawRetention = trackingPolicies.location_events.retention;
const rawRetentionMs = milliseconds(rawRetention);
/** PostgreSQL parses jsonb by recursion: far deeper ones exceed its stack. */
const maxDepth = 1_000;
const yearOne = Date.parse('0001-01-01T00:00:00Z');

export interface RejectedLocation {
  /** Place in the batch, from 0. */
  readonly index: number;
  readonly reason: string;
}

/** A batch that was refused, with the reason of each point that does not fit. */
export class LocationsRejectedError extends ValidationError {
  override readonly name = 'LocationsRejectedError';
  override readonly code = 'LOCATIONS_REJECTED';
  readonly rejected: readonly RejectedLocation[];

  constructor(rejected: readonly RejectedLocation[]) {
    const [first] = rejected;
    super(
      `${rejected.length} of the points do not fit, the first at index ${first?.index}: ${first?.reason}. None was stored.`,
    );
    this.rejected = rejected;
  }
}

/** Points rounded to what the columns keep, and those that no column could hold. */
export function validateLocations(
  events: readonly LocationInput[],
  limits: PointLimits = pointLimits(),
): {
  valid: LocationInput[];
  rejected: RejectedLocation[];
} {
  const valid: LocationInput[] = [];
  const rejected: RejectedLocation[] = [];
  for (let index = 0; index < events.length; index += 1) {
    const checked = checkLocation(events[index], limits);
    if (typeof checked === 'string') rejected.push({ index, reason: checked });
    else valid.push(checked);
  }
  return { valid, rejected };
}

/** What may enter besides what the columns hold. */
export interface PointLimits {
  /** Of the time, in milliseconds since 1970. */
  readonly oldest: number;
  readonly newest: number;
  readonly allowZeroPosition: boolean;
}

export interface ZeroPositionOption {
  /**
   * Takes points at latitude 0, longitude 0, which a receiver without a fix sends. Default false: they are
   * refused, because they would become the latest position and pull averages.
   */
  allowZeroPosition?: boolean;
}

/**
 * From the raw retention to the present. An import takes older points as well: it says what becomes of them.
 */
export function pointLimits({
  anyAge = false,
  allowZeroPosition = false,
}: ZeroPositionOption & { anyAge?: boolean } = {}): PointLimits {
  const now = Date.now();
  const oldest = anyAge ? Number.NEGATIVE_INFINITY : now - rawRetentionMs;
  return { oldest, newest: now + futureTolerance, allowZeroPosition };
}

/**
 * The rounded point, or why it is none. Column by column and not in a loop: a service checks a hundred
 * thousand points a second, and this takes a third of the time.
 */
export function checkLocation(event: unknown, limits: PointLimits): LocationInput | string {
  if (typeof event !== 'object' || event === null) return 'it is no object';
  const given = event as Readonly<Record<string, unknown>>;
  const reason =
    missing(given) ??
    named('time', checkTime(given.time, limits)) ??
    named('deviceId', checkUuid(given.deviceId)) ??
    named('userId', checkUuid(given.userId)) ??
    named('appSource', checkAppSource(given.appSource)) ??
    named('metadata', isAbsent(given.metadata) ? undefined : checkMetadata(given.metadata));
  if (reason !== undefined) return reason;
  const checked = {
    // Copies: the caller may go on to change his.
    time: new Date(given.time as Date),
    deviceId: given.deviceId as string,
    userId: given.userId as string,
    appSource: given.appSource as string,
    latitude: readNumber(latitude, given.latitude) as number,
    longitude: readNumber(longitude, given.longitude) as number,
    accuracy: readNumber(accuracy, given.accuracy),
    altitude: readNumber(altitude, given.altitude),
    speed: readNumber(speed, given.speed),
    heading: readNumber(heading, given.heading),
    metadata: isAbsent(given.metadata) ? null : JSON.parse(JSON.stringify(given.metadata)),
  };
  return firstUnfit(checked, given) ?? checkPosition(checked, limits) ?? (checked as LocationInput);
}

const numbers = locationColumns.filter(({ type }) => type === 'numeric');
const [latitude, longitude, accuracy, altitude, speed, heading] = numbers as [
  LocationColumn,
  LocationColumn,
  LocationColumn,
  LocationColumn,
  LocationColumn,
  LocationColumn,
];
const required = locationColumns.filter((column) => column.required);
const isAbsent = (value: unknown) => value === undefined || value === null;

function missing(given: Readonly<Record<string, unknown>>): string | undefined {
  for (const { property } of required) if (isAbsent(given[property])) return `${property} is missing`;
  return undefined;
}

const named = (name: string, reason: string | undefined) =>
  reason === undefined ? undefined : `${name} ${reason}`;

/** Rounded, null where there is none, NaN where it does not fit. */
export function readNumber({ range }: LocationColumn, value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'number' || !range) return Number.NaN;
  if (value === range.unknown) return null;
  const rounded = roundTo(range.scale, value);
  return rounded >= range.min && rounded <= range.max ? rounded : Number.NaN;
}

function firstUnfit(checked: Readonly<Record<string, unknown>>, given: Readonly<Record<string, unknown>>) {
  for (const column of numbers) {
    const { property } = column;
    if (!Number.isNaN(checked[property])) continue;
    const value = given[property];
    return `${property} ${typeof value === 'number' ? checkNumber(column, value) : 'is not a number'}`;
  }
  return undefined;
}

const checkUuid = (value: unknown) =>
  typeof value === 'string' && isUuid(value) ? undefined : 'is not a uuid';

/** Whether a time is one that may be stored now, as the end of a sentence. */
export function checkTime(value: unknown, { oldest, newest }: PointLimits): string | undefined {
  if (!(value instanceof Date)) return 'is not a valid Date';
  const time = value.getTime();
  if (Number.isNaN(time)) return 'is not a valid Date';
  if (time > newest) return `lies in the future: ${value.toISOString()}`;
  if (time < oldest) return `is older than the raw retention of ${rawRetention}: ${value.toISOString()}`;
  return time < yearOne ? 'is before the year 1' : undefined;
}

/** Whether a position that was rounded is one that may be stored. */
export function checkPosition(
  { latitude, longitude }: Pick<LocationInput, 'latitude' | 'longitude'>,
  { allowZeroPosition }: PointLimits,
): string | undefined {
  return latitude === 0 && longitude === 0 && !allowZeroPosition
    ? 'latitude and longitude are 0, which a receiver without a fix sends'
    : undefined;
}

export function checkAppSource(value: unknown): string | undefined {
  return locationSources.some((source) => source === value)
    ? undefined
    : `is not one of ${locationSources.join(', ')}`;
}

/** Whether a number fits its DECIMAL column after rounding, as the end of a sentence. */
export function checkNumber({ range }: LocationColumn, value: number): string | undefined {
  if (!Number.isFinite(value)) return 'is not a finite number';
  if (!range) return undefined;
  const rounded = roundTo(range.scale, value);
  return rounded < range.min || rounded > range.max
    ? `is ${value}, not from ${range.min} to ${range.max}`
    : undefined;
}

/** As toFixed, exact where the digit after the last is a 5; three times as fast elsewhere. */
export function roundTo(scale: number, value: number): number {
  const factor = scale === 2 ? 100 : 10 ** scale;
  const scaled = value * factor;
  const fraction = scaled - Math.floor(scaled);
  // The product is off by less than 1e-5 for what any column can hold.
  const nearHalf = fraction > 0.4999 && fraction < 0.5001;
  const rounded =
    nearHalf || Math.abs(scaled) > 1e11 ? Number(value.toFixed(scale)) : Math.round(scaled) / factor;
  // NUMERIC knows no -0.
  return rounded + 0;
}

export function checkMetadata(value: unknown): string | undefined {
  try {
    if (!isPlainObject(value)) return 'is no JSON object';
    const text = JSON.stringify(value);
    if (!text?.startsWith('{')) return 'is no JSON object';
    if (text.length > maxDepth && depthOf(text) > maxDepth) return `is nested more than ${maxDepth} deep`;
    // JSON may escape a NUL character; jsonb cannot hold one. A lone surrogate is not a character either.
    return /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/i.test(text)
      ? 'has a character that jsonb cannot hold'
      : undefined;
  } catch {
    return 'cannot be written as JSON';
  }
}

/** A Map or an Error would become {}, a Date a string. */
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
