// The columns of location_events, in the order in which they are sent. Validation, the import, the encoders and the
// queries follow from this table; name, type and NOT NULL come from the schema.
import { getTableColumns } from 'drizzle-orm';
import { locationEvents, locationSources, type NewLocationEvent } from '../../schema/tracking.ts';
import { type ColumnLimits, type ColumnType, columnType } from './column-types.ts';

/**
 * A GPS location. Degrees, metres, km/h, degrees clockwise from north. A speed, heading or accuracy of -1 means
 * "unknown" and is stored as NULL. An accuracy above 9,999.99 m is refused: it does not locate a vehicle.
 */
export type LocationInput = NewLocationEvent;

/** Not negative, except for the -1 that iOS and Flutter send for "unknown". */
const measured: ColumnLimits = { min: 0, unknown: -1 };

/** What the CHECKs of the table allow, within the precision of the column. */
const limits: Readonly<Record<keyof LocationInput, ColumnLimits>> = {
  time: {},
  deviceId: {},
  userId: {},
  appSource: { oneOf: locationSources },
  latitude: { min: -90, max: 90 },
  longitude: { min: -180, max: 180 },
  accuracy: measured,
  altitude: {},
  speed: measured,
  heading: { ...measured, max: 360 },
  metadata: {},
};

export interface LocationColumn extends ColumnType {
  readonly property: keyof LocationInput;
  readonly name: string;
  readonly required: boolean;
}

const tableColumns = getTableColumns(locationEvents);

export const locationColumns: readonly LocationColumn[] = Object.entries(limits).map(([key, limit]) => {
  const property = key as keyof LocationInput;
  const column = tableColumns[property];
  const { name, notNull: required } = column;
  const { type, bytes, check, parse, toElement, encode } = columnType(column.getSQLType(), limit);
  // Written out, so that all have one shape: V8 calls them faster.
  return { property, name, required, type, bytes, check, parse, toElement, encode };
});

/** A copy of it has all properties in one order: V8 reads and writes objects of one shape faster. */
export const emptyLocation: Readonly<Record<string, unknown>> = Object.fromEntries(
  locationColumns.map(({ property }) => [property, null]),
);
