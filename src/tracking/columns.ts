// The columns of location_events, and what each of them can hold.
import type { NewLocationEvent } from '../../schema/tracking.ts';

/**
 * A GPS point. Degrees, metres, km/h, degrees clockwise from north. A speed, heading or accuracy of -1 means
 * "unknown" and is stored as NULL. An accuracy above 9,999.99 m is refused: it does not locate a vehicle.
 */
export type LocationInput = NewLocationEvent;

/** What a DECIMAL column holds: rounded to `scale` digits, within `min` and `max`. */
interface DecimalRange {
  readonly scale: number;
  readonly min: number;
  readonly max: number;
  /** What phones send where they do not know; stored as NULL. */
  readonly unknown?: number;
}

export interface LocationColumn {
  readonly name: string;
  readonly property: keyof LocationInput;
  /** PostgreSQL type of the array that carries it in. */
  readonly type: 'timestamptz' | 'uuid' | 'text' | 'numeric' | 'jsonb';
  readonly required: boolean;
  /** Only for numbers. Ranges come from the table's CHECKs and DECIMAL precisions. */
  readonly range?: DecimalRange;
}

const range = (scale: number, min: number, max: number): DecimalRange => ({ scale, min, max });
/** Not negative, but for the -1 that iOS and Flutter send for "unknown". */
const measured = (max: number): DecimalRange => ({ ...range(2, 0, max), unknown: -1 });
const altitude = range(2, -999_999.99, 999_999.99);

/** In the table's order. */
export const locationColumns: readonly LocationColumn[] = [
  { name: 'time', property: 'time', type: 'timestamptz', required: true },
  { name: 'device_id', property: 'deviceId', type: 'uuid', required: true },
  { name: 'user_id', property: 'userId', type: 'uuid', required: true },
  { name: 'app_source', property: 'appSource', type: 'text', required: true },
  { name: 'latitude', property: 'latitude', type: 'numeric', required: true, range: range(8, -90, 90) },
  { name: 'longitude', property: 'longitude', type: 'numeric', required: true, range: range(8, -180, 180) },
  { name: 'accuracy', property: 'accuracy', type: 'numeric', required: false, range: measured(9_999.99) },
  { name: 'altitude', property: 'altitude', type: 'numeric', required: false, range: altitude },
  { name: 'speed', property: 'speed', type: 'numeric', required: false, range: measured(9_999.99) },
  { name: 'heading', property: 'heading', type: 'numeric', required: false, range: measured(360) },
  { name: 'metadata', property: 'metadata', type: 'jsonb', required: false },
];

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
export const isUuid = (text: string): boolean => uuid.test(text);
