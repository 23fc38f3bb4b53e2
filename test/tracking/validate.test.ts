// What validation accepts is stored and read back as it was rounded; what it refuses, PostgreSQL would refuse or misread.
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { rounding } from '../../src/tracking/column-types.ts';
import { getTrack, type LocationInput, recordLocations } from '../../src/tracking/index.ts';
import { rowsForCopy } from '../../src/tracking/record.ts';
import { locationLimits, validateLocations } from '../../src/tracking/validate.ts';
import { describeWith, testPool } from '../support/database.ts';

const day = 86_400_000;
const good: LocationInput = {
  time: new Date(),
  deviceId: randomUUID(),
  userId: randomUUID(),
  appSource: 'mextrack',
  latitude: 1,
  longitude: 0,
};

function nested(depth: number): Record<string, unknown> {
  let value: Record<string, unknown> = {};
  for (let level = 1; level < depth; level += 1) value = { a: value };
  return value;
}

describe('each reason', () => {
  test.each([
    [{ time: new Date(Number.NaN) }, 'time is not a valid Date'],
    [{ time: '2026-01-01' }, 'time is not a valid Date'],
    [{ time: new Date(Date.now() + 3_600_000) }, 'time lies in the future'],
    [{ time: new Date(Date.now() - 31 * day) }, 'time is older than the raw retention of 30 days'],
    [{ deviceId: 'x' }, 'deviceId is not a uuid'],
    [{ userId: undefined }, 'userId is missing'],
    [{ appSource: '' }, 'appSource is not one of mextrack, pshop'],
    [{ appSource: 5 }, 'appSource is not one of'],
    [{ latitude: '1' }, 'latitude is not a number'],
    [{ latitude: Number.NaN }, 'latitude is not a finite number'],
    [{ longitude: 180.000000006 }, 'longitude is 180.000000006'],
    [{ speed: 9_999.995 }, 'speed is 9999.995'],
    [{ heading: -0.006 }, 'heading is -0.006'],
    [{ speed: -1.5 }, 'speed is -1.5'],
    [{ accuracy: 20_000 }, 'accuracy is 20000, not from 0 to 9999.99'],
    [{ latitude: 0, longitude: -0.000000004 }, 'latitude and longitude are 0'],
    [{ altitude: Number.NEGATIVE_INFINITY }, 'altitude is not a finite number'],
    [{ metadata: 'text' }, 'metadata is not a JSON object'],
    [{ metadata: [1] }, 'metadata is not a JSON object'],
    [{ metadata: { a: '\0' } }, 'metadata has a character that jsonb cannot hold'],
    [{ metadata: { a: 1n } }, 'metadata cannot be written as JSON'],
    [{ metadata: nested(1_001) }, 'metadata is nested more than 1000 deep'],
  ])('%o', (wrong, reason) => {
    const { valid, rejected } = validateLocations([{ ...good, ...wrong } as LocationInput]);
    expect(valid).toEqual([]);
    expect(rejected).toEqual([{ index: 0, reason: expect.stringContaining(reason) }]);
  });
});

test('a phone that says -1 for what it does not know: NULL; -1 of a measure that may be negative stays', () => {
  const unknown = { ...good, speed: -1, heading: -1, accuracy: -1, altitude: -1 };
  expect(validateLocations([unknown])).toMatchObject({
    valid: [{ speed: null, heading: null, accuracy: null, altitude: -1 }],
    rejected: [],
  });
});

test('0,0 is taken where an option says so', () => {
  const zero = { ...good, latitude: 0, longitude: 0 };
  const { valid, rejected } = validateLocations([zero], locationLimits({ allowZeroPosition: true }));
  expect({ valid, rejected }).toMatchObject({ valid: [{ latitude: 0, longitude: 0 }], rejected: [] });
});

test('rounding is that of toFixed, halves and all', () => {
  const halves = fc.integer({ min: -99_999_999, max: 99_999_999 }).map((count) => count / 200);
  const any = fc.double({ min: -1_000_000, max: 1_000_000, noNaN: true });
  fc.assert(
    fc.property(fc.oneof(halves, any), (value) => {
      expect(rounding(2)(value)).toBe(Number(value.toFixed(2)) + 0);
      expect(rounding(8)(value / 1_000)).toBe(Number((value / 1_000).toFixed(8)) + 0);
    }),
    { numRuns: 5_000 },
  );
});

/** Anything that a caller's numbers and metadata may be, most of it storable. */
const number = (span: number) =>
  fc.option(fc.oneof(fc.double({ min: -span, max: span }), fc.double()), { nil: null });
const points = fc.record({
  time: fc.constant(new Date()),
  deviceId: fc.uuid(),
  userId: fc.uuid().map((uuid) => uuid.toUpperCase()),
  appSource: fc.oneof(fc.constantFrom('mextrack', 'pshop'), fc.string()),
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

  const begin = Date.now() - day;
  /** One device, a point each millisecond. */
  const timed = (batch: readonly object[], deviceId: string) =>
    batch.map((event, index) => ({ ...event, deviceId, time: new Date(begin + index) }) as LocationInput);
  const stored = (deviceId: string) =>
    getTrack(db, deviceId, { from: new Date(begin), to: new Date(), maxPoints: 10_000 });

  test('that validation accepts is stored and read back equal, as arrays', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(points, { minLength: 1, maxLength: 20 }), async (batch) => {
        const deviceId = randomUUID();
        const events = timed(batch, deviceId);
        const { valid } = validateLocations(events);
        const { written } = await recordLocations(db, events, { onInvalid: 'skip' });
        expect(written).toBe(valid.length);
        expect(await stored(deviceId)).toEqual(valid.map(asStored));
      }),
      { numRuns: 30 },
    );
  });

  test('that validation accepts is stored and read back equal, through COPY', async () => {
    const deviceId = randomUUID();
    const events = timed(fc.sample(points, rowsForCopy * 10), deviceId);
    // Most of its doubles are next to 0.
    const { valid } = validateLocations(events, locationLimits({ allowZeroPosition: true }));
    expect(valid.length).toBeGreaterThan(rowsForCopy);
    await recordLocations(db, valid, { allowZeroPosition: true });
    expect(await stored(deviceId)).toEqual(valid.map(asStored));
  });

  test('that validation refuses for a value, PostgreSQL refuses or would change', async () => {
    const refused = fc.sample(points, 2_000).flatMap((event) => {
      const [rejected] = validateLocations([event as LocationInput]).rejected;
      return rejected && !/^(time|appSource) /.test(rejected.reason)
        ? [{ event, column: rejected.reason.split(' ')[0] }]
        : [];
    });
    expect(refused.length).toBeGreaterThan(100);
    const kept: unknown[] = [];
    for (const { event, column } of refused.slice(0, 60)) {
      const value = event[column as keyof typeof event];
      const given = typeof value === 'object' ? JSON.stringify(value) : String(value);
      const row = { ...good, [column as string]: given };
      const answer = await db
        .query<{ value: string }>(
          `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, accuracy, altitude, speed, heading, metadata)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING ${column} AS value`,
          [row.time, row.deviceId, row.userId, row.appSource, row.latitude, row.longitude]
            .concat(
              [row.accuracy, row.altitude, row.speed, row.heading].map((number) => number ?? null) as never[],
            )
            .concat([row.metadata ?? null] as never[]),
        )
        .then(
          ({ rows }) => rows[0]?.value,
          () => 'refused',
        );
      // -0.001 rounds to a value in range, and so validation takes it; nothing else may get in unchanged.
      if (answer !== 'refused' && JSON.stringify(answer) === given) kept.push({ column, given });
    }
    expect(kept).toEqual([]);
  });
});

/** As it comes back: -0 of JSON is 0, uuids are lower-case. */
function asStored(event: LocationInput): LocationInput {
  const { time, userId, ...rest } = event;
  return { ...(JSON.parse(JSON.stringify(rest)) as LocationInput), time, userId: userId.toLowerCase() };
}
