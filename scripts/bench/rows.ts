// Rows for the benchmarks: points of a simulated fleet, in the order in which a server receives them.
import { createHash } from 'node:crypto';
import { locationColumns } from '../../src/tracking/columns.ts';
import type { LocationInput } from '../../src/tracking/index.ts';
import { drive } from '../simulation/fleet.ts';

/** Always the same id for the same kind and number. */
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

/** Points of many devices, in the order of time. */
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

interface CsvFleet {
  rows: number;
  devices: number;
  firstDevice?: number;
  /** Milliseconds between two points of a device. */
  stepMs: number;
}

/** The text of a CSV, in the order of time, up to a minute ago. Generated while it is read, in constant memory. */
export async function* fleetCsv({
  rows,
  devices,
  firstDevice = 0,
  stepMs,
}: CsvFleet): AsyncGenerator<string> {
  const ids = Array.from({ length: devices }, (_, index) => {
    const number = firstDevice + index;
    return `${benchUuid('device', number)},${benchUuid('user', number)},${number % 2 === 0 ? 'mextrack' : 'pshop'}`;
  });
  const begin = Date.now() - stepMs * (rows / devices) - 60_000;
  yield `${locationColumns.map(({ name }) => name).join(',')}\n`;
  for (let made = 0; made < rows; ) {
    let text = '';
    for (let line = 0; line < 1_000 && made < rows; line += 1) {
      const time = new Date(begin + Math.floor(made / devices) * stepMs).toISOString();
      text += `${time},${ids[made % devices]},-34.6${made % 1_000},-58.3${made % 777},5.25,20.5,${made % 90}.5,${made % 360},\n`;
      made += 1;
    }
    yield text;
  }
}
