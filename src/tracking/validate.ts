// Checks GPS points once, where they enter: what passes is stored as it is, what does not has a reason.
import { trackingPolicies } from '../../schema/tracking.ts';
import { ValidationError } from '../errors.ts';
import { Invalid } from './column-types.ts';
import { emptyLocation, type LocationInput, locationColumns } from './columns.ts';
import { milliseconds } from './interval.ts';

/** Clocks of devices run ahead a little; what lies further in the future is a wrong clock. Milliseconds. */
const futureTolerance = 5 * 60_000;
const rawRetention = trackingPolicies.location_events.retention;
const rawRetentionMs = milliseconds(rawRetention);
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
  locations: readonly LocationInput[],
  limits: LocationLimits = locationLimits(),
): {
  valid: LocationInput[];
  rejected: RejectedLocation[];
} {
  const valid: LocationInput[] = [];
  const rejected: RejectedLocation[] = [];
  for (let index = 0; index < locations.length; index += 1) {
    const checked = checkLocation(locations[index], limits);
    if (typeof checked === 'string') rejected.push({ index, reason: checked });
    else valid.push(checked);
  }
  return { valid, rejected };
}

/** What may enter besides what the columns hold. */
export interface LocationLimits {
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
export function locationLimits({
  anyAge = false,
  allowZeroPosition = false,
}: ZeroPositionOption & { anyAge?: boolean } = {}): LocationLimits {
  const now = Date.now();
  const oldest = anyAge ? Number.NEGATIVE_INFINITY : now - rawRetentionMs;
  return { oldest, newest: now + futureTolerance, allowZeroPosition };
}

/** The location rounded to what the columns keep, or why it is not stored. */
export function checkLocation(given: unknown, limits: LocationLimits): LocationInput | string {
  const location = checkValues(given);
  return typeof location === 'string' ? location : (checkLimits(location, limits) ?? location);
}

/** Whether the columns can hold it, at any time and place. */
export function checkValues(given: unknown): LocationInput | string {
  if (typeof given !== 'object' || given === null) return 'it is not an object';
  const values = given as Readonly<Record<string, unknown>>;
  const location: Record<string, unknown> = { ...emptyLocation };
  for (const { property, required, check } of locationColumns) {
    const value = values[property];
    if (value === undefined || value === null) {
      if (required) return `${property} is missing`;
    } else {
      const checked = check(value);
      if (checked instanceof Invalid) return `${property} ${checked.reason}`;
      location[property] = checked;
    }
  }
  return location as unknown as LocationInput;
}

/** Why a location whose values the columns can hold may not enter; undefined where it may. */
export function checkLimits(
  { time, latitude, longitude }: LocationInput,
  { oldest, newest, allowZeroPosition }: LocationLimits,
): string | undefined {
  const at = time.getTime();
  if (at > newest) return `time lies in the future: ${time.toISOString()}`;
  if (at < oldest) return `time is older than the raw retention of ${rawRetention}: ${time.toISOString()}`;
  if (at < yearOne) return 'time is before the year 1';
  return latitude === 0 && longitude === 0 && !allowZeroPosition
    ? 'latitude and longitude are 0, which a receiver without a fix sends'
    : undefined;
}
