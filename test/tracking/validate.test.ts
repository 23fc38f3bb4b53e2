// What validation accepts is stored and read back as it was rounded; what it refuses has a reason.
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { insertLocations } from '../../src/tracking/events.ts';
import { getTrack, type LocationInput } from '../../src/tracking/index.ts';
import { validateLocations } from '../../src/tracking/validate.ts';
import { describeWith, testPool } from '../support/database.ts';

const good = {
  time: new Date(0),
  deviceId: randomUUID(),
  userId: randomUUID(),
  appSource: 'mextrack',
  latitude: 0,
  longitude: 0,
};

describe('each reason', () => {
  test.each([
    [{ time: new Date(Number.NaN) }, 'time is not a valid Date'],
    [{ time: '2026-01-01' }, 'time is not a valid Date'],
    [{ time: new Date(Date.now() + 3_600_000) }, 'time lies in the future'],
    [{ deviceId: 'x' }, 'deviceId is not a uuid'],
    [{ userId: undefined }, 'userId is missing'],
    [{ appSource: '' }, 'appSource is not text'],
    [{ appSource: 'x'.repeat(51) }, 'appSource does not fit'],
    [{ latitude: '1' }, 'latitude is not a number'],
    [{ latitude: Number.NaN }, 'latitude is not a finite number'],
    [{ longitude: 180.000000006 }, 'longitude is 180.000000006'],
    [{ speed: 9_999.995 }, 'speed is 9999.995'],
    [{ heading: -0.006 }, 'heading is -0.006'],
    [{ altitude: Number.NEGATIVE_INFINITY }, 'altitude is not a finite number'],
    [{ metadata: 'text' }, 'metadata is no JSON object'],
    [{ metadata: [1] }, 'metadata is no JSON object'],
    [{ metadata: { a: '\0' } }, 'metadata has a character that jsonb cannot hold'],
    [{ metadata: { a: 1n } }, 'metadata cannot be written as JSON'],
  ])('%o', (wrong, reason) => {
    const { valid, rejected } = validateLocations([{ ...good, ...wrong } as LocationInput]);
    expect(valid).toEqual([]);
    expect(rejected).toEqual([{ index: 0, reason: expect.stringContaining(reason) }]);
  });
});

/** Anything that a caller's numbers and metadata may be, most of it storable. */
const number = (span: number) =>
  fc.option(fc.oneof(fc.double({ min: -span, max: span }), fc.double()), { nil: null });
const points = fc.record({
  time: fc.date({ min: new Date('2020-01-01'), max: new Date('2025-01-01'), noInvalidDate: true }),
  deviceId: fc.uuid(),
  userId: fc.uuid(),
  appSource: fc.string({ unit: 'grapheme', maxLength: 60 }),
  latitude: fc.double({ min: -91, max: 91, noNaN: true }),
  longitude: fc.double({ min: -181, max: 181, noNaN: true }),
  accuracy: number(10_000),
  altitude: number(1_000_000),
  speed: number(10_000),
  heading: number(361),
  metadata: fc.option(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), { nil: null }),
});

describeWith(['timescaledb'], 'any point', () => {
  let db: Awaited<ReturnType<typeof testPool<'tracking'>>>;
  beforeAll(async () => {
    db = await testPool('tracking');
  });

  test('that validation accepts is stored and read back equal', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(points, { minLength: 1, maxLength: 20 }), async (batch) => {
        const deviceId = randomUUID();
        const events = batch.map((event, index) => ({
          ...event,
          deviceId,
          time: new Date(Date.UTC(2026, 0, 1) + index),
        }));
        const { valid } = validateLocations(events as LocationInput[]);
        expect(await insertLocations(db, valid)).toBe(valid.length);
        const range = { from: new Date(Date.UTC(2026, 0, 1)), to: new Date(Date.UTC(2026, 0, 2)) };
        const stored = await getTrack(db, deviceId, { ...range, maxPoints: 100 });
        expect(stored).toEqual(valid.map((event) => JSON.parse(JSON.stringify(event), revive)));
      }),
      { numRuns: 30 },
    );
  });
});

/** As jsonb gives it back: -0 is 0, and dates are dates. */
function revive(key: string, value: unknown): unknown {
  return key === 'time' ? new Date(String(value)) : value;
}
