// Writes the locations of a device as text that `importLocations` can read.
import type { LocationEvent } from '../../schema/tracking.ts';
import type { Pool } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { locationColumns } from './columns.ts';
import { requireRange, type TimeRange } from './history.ts';
import type { LocationFormat } from './import/dialect.ts';
import { atrizNamespace } from './import/gpx.ts';
import { type LocationRow, readLocation, selectedColumns } from './packed-rows.ts';
import { isDevice } from './reads.ts';

const rowsPerRead = 1_000;

interface Writer {
  readonly begin: string;
  readonly between: string;
  readonly end: string;
  readonly row: (location: LocationEvent) => string;
}

/**
 * Yields the locations of a device in `[from, to)` as pieces of text, oldest first. Uses constant memory. Times are
 * written to the millisecond. Values for which GPX has no element are written as extensions of GPX.
 * @throws ValidationError for a device id that is not a uuid, an invalid date, or an empty range.
 */
export async function* exportLocations(
  db: Pool,
  deviceId: string,
  range: TimeRange,
  format: LocationFormat,
): AsyncGenerator<string> {
  requireUuid(deviceId, 'deviceId');
  requireRange(range);
  const { begin, between, end, row } = writers[format];
  yield begin;
  let isFirst = true;
  const rows = db.sql.unsafe(
    `SELECT ${selectedColumns} FROM location_events WHERE ${isDevice('$1')} AND time >= $2 AND time < $3 ORDER BY time`,
    [deviceId, range.from, range.to],
  );
  for await (const batch of rows.cursor(rowsPerRead)) {
    const texts = (batch as unknown as LocationRow[]).map((each) => row(readLocation(each)));
    yield `${isFirst ? '' : between}${texts.join(between)}`;
    isFirst = false;
  }
  yield end;
}

const cellOf = (value: unknown): string => {
  if (value === null || value === undefined) return '';
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
};

/** Returns the values by column name, without NULLs and without the columns in `without`. */
const namedValues = (location: LocationEvent, without: readonly string[] = []): Record<string, unknown> =>
  Object.fromEntries(
    locationColumns
      .filter(({ name, property }) => !without.includes(name) && location[property] !== null)
      .map(({ name, property }) => [name, location[property]]),
  );

const csvCell = (value: unknown): string => {
  const text = cellOf(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const xmlText = (value: unknown): string =>
  cellOf(value).replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

const inPosition = ['latitude', 'longitude', 'altitude'];

const writers: Readonly<Record<LocationFormat, Writer>> = {
  csv: {
    begin: `${locationColumns.map(({ name }) => name).join(',')}\n`,
    between: '\n',
    end: '\n',
    row: (location) => locationColumns.map(({ property }) => csvCell(location[property])).join(','),
  },
  ndjson: { begin: '', between: '\n', end: '\n', row: (location) => JSON.stringify(namedValues(location)) },
  geojson: {
    begin: '{"type":"FeatureCollection","features":[\n',
    between: ',\n',
    end: '\n]}\n',
    row: (location) => {
      const { latitude, longitude, altitude } = location;
      const coordinates = [longitude, latitude, ...(altitude === null ? [] : [altitude])];
      return JSON.stringify({
        type: 'Feature',
        geometry: { type: 'Point', coordinates },
        properties: namedValues(location, inPosition),
      });
    },
  },
  gpx: {
    begin:
      '<?xml version="1.0" encoding="UTF-8"?>\n' +
      `<gpx version="1.1" creator="@atriz/database" xmlns="http://www.topografix.com/GPX/1/1" xmlns:atriz="${atrizNamespace}">\n` +
      '<trk><trkseg>\n',
    between: '\n',
    end: '\n</trkseg></trk>\n</gpx>\n',
    row: (location) => {
      const { latitude, longitude, altitude, time } = location;
      const elevation = altitude === null ? '' : `<ele>${altitude}</ele>`;
      const own = Object.entries(namedValues(location, [...inPosition, 'time']))
        .map(([name, value]) => `<atriz:${name}>${xmlText(value)}</atriz:${name}>`)
        .join('');
      return `<trkpt lat="${latitude}" lon="${longitude}">${elevation}<time>${time.toISOString()}</time><extensions>${own}</extensions></trkpt>`;
    },
  },
};
