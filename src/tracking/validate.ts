// Checks GPS points once, where they enter: what passes is stored as it is, what does not has a reason.
import { ValidationError } from '../errors.ts';
import { isUuid, type LocationColumn, type LocationInput, locationColumns } from './columns.ts';

/** Clocks of devices run ahead a little; what lies further in the future is a wrong clock. Milliseconds. */
const futureTolerance = 5 * 60_000;

export interface RejectedLocation {
  /** Place in the batch, from 0. */
  readonly index: number;
  readonly reason: string;
}

/** A batch that was refused, with the reason of each point that does not fit. */
export class LocationsRejectedError extends ValidationError {
  override readonly name = 'LocationsRejectedError';
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
export function validateLocations(events: readonly LocationInput[]): {
  valid: LocationInput[];
  rejected: RejectedLocation[];
} {
  const latest = Date.now() + futureTolerance;
  const valid: LocationInput[] = [];
  const rejected: RejectedLocation[] = [];
  for (const [index, event] of events.entries()) {
    const checked = checkLocation(event, latest);
    if (typeof checked === 'string') rejected.push({ index, reason: checked });
    else valid.push(checked);
  }
  return { valid, rejected };
}

/** The rounded point, or why it is none. */
function checkLocation(event: LocationInput, latest: number): LocationInput | string {
  if (typeof event !== 'object' || event === null) return 'it is no object';
  const checked: Record<string, unknown> = {};
  for (const column of locationColumns) {
    const value: unknown = event[column.property];
    if (value === undefined || value === null) {
      if (column.required) return `${column.property} is missing`;
      checked[column.property] = null;
      continue;
    }
    const reason = checkValue(column, value, latest);
    if (reason !== undefined) return `${column.property} ${reason}`;
    checked[column.property] = column.range ? roundTo(column.range.scale, value as number) : value;
  }
  return checked as LocationInput;
}

function checkValue(column: LocationColumn, value: unknown, latest: number): string | undefined {
  switch (column.type) {
    case 'timestamptz':
      return checkTime(value, latest);
    case 'uuid':
      return typeof value === 'string' && isUuid(value) ? undefined : 'is not a uuid';
    case 'numeric':
      return typeof value === 'number' ? checkNumber(column, value) : 'is not a number';
    case 'jsonb':
      return checkMetadata(value);
    default:
      if (typeof value !== 'string' || value === '') return 'is not text';
      return value.length > 50 || value.includes('\0') ? 'does not fit into 50 characters' : undefined;
  }
}

/** Whether a time is one, and not of a clock that runs ahead, as the end of a sentence. */
export function checkTime(value: unknown, latest = Date.now() + futureTolerance): string | undefined {
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) return 'is not a valid Date';
  if (value.getUTCFullYear() < 1) return 'is before the year 1';
  return value.getTime() > latest ? `lies in the future: ${value.toISOString()}` : undefined;
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

export const roundTo = (scale: number, value: number): number => Number(value.toFixed(scale));

export function checkMetadata(value: unknown): string | undefined {
  try {
    const text = JSON.stringify(value);
    if (typeof value !== 'object' || Array.isArray(value) || text === undefined) return 'is no JSON object';
    // JSON may escape a NUL character; jsonb cannot hold one. A lone surrogate is no character either.
    return /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/i.test(text)
      ? 'has a character that jsonb cannot hold'
      : undefined;
  } catch {
    return 'cannot be written as JSON';
  }
}
