// Reads the points of GeoJSON as rows of columns: Point features, and LineStrings with a time for each vertex.
import { pipeline, Readable } from 'node:stream';
import pick from 'stream-json/filters/pick.js';
import parser from 'stream-json/parser.js';
import streamArray from 'stream-json/streamers/stream-array.js';
import { ValidationError } from '../../errors.ts';
import type { Row } from './gpx.ts';

interface Feature {
  geometry?: { type?: unknown; coordinates?: unknown } | null;
  properties?: Readonly<Record<string, unknown>> | null;
}

const rowsPerBatch = 1_000;

/**
 * Yields batches of rows. The position of a row is the number of its feature, from 1. Properties are named like the
 * columns of CSV.
 * @throws ValidationError if the text is not a complete FeatureCollection.
 */
export async function* readGeoJson(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<Row[]> {
  // Errors of all streams reach the loop over the last stream.
  const features = pipeline(
    Readable.from(source, { objectMode: false }),
    // Otherwise the parser would also emit pieces of values, which doubles the number of tokens.
    parser.asStream({ streamValues: false }),
    pick.asStream({ filter: 'features' }),
    streamArray.asStream(),
    () => undefined,
  );
  let rows: Row[] = [];
  let count = 0;
  try {
    for await (const { value } of features as AsyncIterable<{ value: Feature }>) {
      count += 1;
      rows.push(...rowsOf(value, count));
      if (rows.length < rowsPerBatch) continue;
      yield rows;
      rows = [];
    }
  } catch (error) {
    // Errors of the file, the network or gunzip have a code.
    if (typeof (error as { code?: unknown }).code === 'string') throw error;
    throw new ValidationError(`This is not whole GeoJSON: ${(error as Error).message}. Nothing was loaded.`, {
      cause: error,
    });
  }
  if (count === 0)
    throw new ValidationError('This GeoJSON has no features: it should be a FeatureCollection.');
  yield rows;
}

function* rowsOf({ geometry, properties }: Feature, position: number): Generator<Row> {
  const { coordTimes, times, ...own } = properties ?? {};
  const coordinates = Array.isArray(geometry?.coordinates) ? (geometry.coordinates as unknown[]) : [];
  if (geometry?.type !== 'LineString') {
    yield { position, cells: { ...own, ...cellsOf(geometry?.type === 'Point' ? coordinates : []) } };
    return;
  }
  const instants = [coordTimes, times].find(Array.isArray) as unknown[] | undefined;
  for (const [index, vertex] of coordinates.entries()) {
    const time = instants ? { time: instants[index] } : {};
    yield { position, cells: { ...own, ...time, ...cellsOf(Array.isArray(vertex) ? vertex : []) } };
  }
}

const cellsOf = ([longitude, latitude, altitude]: readonly unknown[]) => ({
  latitude,
  longitude,
  ...(altitude !== undefined && { altitude }),
});
