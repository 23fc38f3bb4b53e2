// Encodes locations for a statement: as one array for each column, or in the binary format of COPY.
import { type LocationInput, locationColumns } from './columns.ts';
import { CopyBuffer } from './copy-buffer.ts';

export const columnNames = locationColumns.map(({ name }) => name).join(', ');

/** Returns SQL for a table of locations. Its parameters are arrays, one for each column, from `$first` on. */
export const unnestLocations = (first: number) =>
  `unnest(${locationColumns.map(({ type }, place) => `$${first + place}::${type}[]`).join(', ')}) AS location (${columnNames})`;

/** Encodes the parameters of `unnestLocations` as array literals. The driver would take five times as long. */
export const arraysOf = (locations: readonly LocationInput[]): string[] =>
  locationColumns.map((column) => {
    const elements = locations.map((location) => {
      const value = location[column.property];
      return value === null || value === undefined ? 'NULL' : column.toElement(value);
    });
    return `{${elements.join(',')}}`;
  });

export const copyStatement = `COPY location_events (${columnNames}) FROM STDIN WITH (FORMAT binary)`;

const rowBytes = locationColumns.reduce((sum, { bytes }) => sum + bytes, 2);

/** A buffer for rows of `copyStatement`. */
export const createCopyBuffer = (): CopyBuffer => new CopyBuffer(rowBytes);

/** Encodes the rows of a COPY in chunks of about 256 kB. Locations must have passed validation. */
export function* encodeCopy(locations: readonly LocationInput[]): Generator<Uint8Array> {
  const buffer = createCopyBuffer();
  for (const location of locations) {
    encodeRow(buffer, location);
    if (buffer.full.length > 0) yield* buffer.full.splice(0);
  }
  yield buffer.end();
}

export function encodeRow(buffer: CopyBuffer, location: LocationInput): void {
  buffer.reserve();
  buffer.int16(locationColumns.length);
  for (const column of locationColumns) {
    const value = location[column.property];
    if (value === null || value === undefined) buffer.null();
    else column.encode(buffer, value);
  }
}
