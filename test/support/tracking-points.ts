// GPS points for tests. Imports nothing of vitest: a process of its own may run it.
import { randomUUID } from 'node:crypto';
import type { LocationInput } from '../../src/tracking/index.ts';

export const hour = 3_600_000;
export const day = 24 * hour;

export function point(overrides: Partial<LocationInput> = {}): LocationInput {
  return {
    time: new Date(),
    deviceId: randomUUID(),
    userId: randomUUID(),
    appSource: 'mextrack',
    latitude: 45.12345678,
    longitude: -179.87654321,
    ...overrides,
  };
}

/** `count` points of `devices` devices, a second apart, with their place in `metadata.n`. */
export function track(count: number, devices = 1, begin = Date.now() - day): LocationInput[] {
  const people = Array.from({ length: devices }, () => ({ deviceId: randomUUID(), userId: randomUUID() }));
  return Array.from({ length: count }, (_, n) =>
    point({
      ...people[n % devices],
      time: new Date(begin + Math.floor(n / devices) * 1000),
      metadata: { n },
    }),
  );
}
