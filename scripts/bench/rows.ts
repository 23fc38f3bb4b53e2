// Rows for the benchmarks: points of a simulated fleet, in the order in which a server receives them.
import { createHash } from 'node:crypto';
import { locationColumns } from '../../src/tracking/columns.ts';
import type { LocationInput } from '../../src/tracking/index.ts';
import { drive } from '../simulation/fleet.ts';

/** Derives a uuid from kind and number, so that it is the same in every run. */
export function benchUuid(kind: string, number: number): string {
  const hash = createHash('sha256').update(`${kind} ${number}`).digest('hex');
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-4${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

interface Fleet {
  rows: number;
  devices: number;
  /** Time of the first points. Default: chosen so that the last points are about a minute old. */
  from?: Date;
  /** Seconds between two points of a device. */
  interval?: number;
}

/** Generates points of many devices, ordered by time. */
export function fleetRows({ rows, devices, from: given, interval = 10 }: Fleet): LocationInput[] {
  const length = (Math.ceil(rows / devices) - 1) * interval * 1000;
  const from = given ?? new Date(Date.now() - 60_000 - length);
  const to = new Date(from.getTime() + length);
  const trips = Array.from({ length: devices }, (_, number) => [
    ...drive({
      deviceId: benchUuid('device', number),
      userId: benchUuid('user', number),
      appSource: number % 2 === 0 ? 'mextrack' : 'pshop',
      from,
      to,
      interval,
      seed: number + 1,
    }),
  ]);
  const events: LocationInput[] = [];
  for (let index = 0; events.length < rows; index += 1) {
    for (const trip of trips) {
      const event = trip[index];
      if (event && events.length < rows) events.push(event);
    }
  }
  return events;
}

interface LongFleet {
  rows: number;
  devices: number;
  firstDevice?: number;
  /** Milliseconds between two points of a device. */
  stepMs: number;
}

/** Generates points while they are read, in constant memory. They are ordered by time and end a minute ago. */
export function* fleetPoints({
  rows,
  devices,
  firstDevice = 0,
  stepMs,
}: LongFleet): Generator<LocationInput> {
  const ids = Array.from({ length: devices }, (_, index) => {
    const number = firstDevice + index;
    return {
      deviceId: benchUuid('device', number),
      userId: benchUuid('user', number),
      appSource: number % 2 === 0 ? ('mextrack' as const) : ('pshop' as const),
    };
  });
  const begin = Date.now() - stepMs * (rows / devices) - 60_000;
  for (let made = 0; made < rows; made += 1) {
    yield {
      time: new Date(begin + Math.floor(made / devices) * stepMs),
      ...(ids[made % devices] as (typeof ids)[number]),
      latitude: -(346_000 + (made % 1_000)) / 10_000,
      longitude: -(583_000 + (made % 777)) / 10_000,
      accuracy: 5.25,
      altitude: 20.5,
      speed: (made % 90) + 0.5,
      heading: made % 360,
    };
  }
}

/** The points of `fleetPoints` as CSV text. */
export const fleetCsv = (fleet: LongFleet): AsyncGenerator<string> => csvOf(fleetPoints(fleet));

/** Writes points as CSV text. The points must have all values except metadata, which stays empty. */
export async function* csvOf(points: Iterable<LocationInput>): AsyncGenerator<string> {
  let text = `${locationColumns.map(({ name }) => name).join(',')}\n`;
  for (const point of points) {
    const { latitude, longitude, accuracy, altitude, speed, heading } = point;
    text += `${point.time.toISOString()},${point.deviceId},${point.userId},${point.appSource},${latitude},${longitude},${accuracy},${altitude},${speed},${heading},\n`;
    if (text.length > 100_000) {
      yield text;
      text = '';
    }
  }
  yield text;
}
