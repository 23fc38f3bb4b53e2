// Lists the columns of location_events in the order in which they are sent. Validation, the import, the
// encoders and the queries use this list. Name, type and NOT NULL come from the schema.
import { getTableColumns } from 'drizzle-orm';
import { locationEvents, locationSources, type NewLocationEvent } from '../../schema/tracking.ts';
import { type ColumnLimits, type ColumnType, columnType } from './column-types.ts';

/**
 * A GPS location. Positions are in degrees, accuracy and altitude in metres, speed in km/h, heading in
 * degrees clockwise from north. A speed, heading or accuracy of -1 means "unknown" and is stored as NULL. An
 * accuracy above 9,999.99 m is refused, because it does not locate a vehicle.
 */
export type LocationInput = NewLocationEvent;

/** Refuses negative values except -1, which iOS and Flutter send for "unknown". */
const measured: ColumnLimits = { min: 0, unknown: -1 };

/** The limits of the CHECK constraints, and the known applications. `columnType` adds the limits of the precision. */
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
  const { type, bytes, check, parse, toElement, encode, copyCell } = columnType(column.getSQLType(), limit);
  // Listed one by one, because V8 is faster when all objects have the same shape.
  return { property, name, required, type, bytes, check, parse, toElement, encode, copyCell };
});

/** Locations are copies of this object, because V8 is faster when all have the same properties in the same order. */
export const emptyLocation: Readonly<Record<string, unknown>> = Object.fromEntries(
  locationColumns.map(({ property }) => [property, null]),
);
