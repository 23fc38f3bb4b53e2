// Pages, live positions, history across the 24-hour boundary, and thinned tracks.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { ValidationError } from '../../src/errors.ts';
import {
  getLatestLocations,
  getLocationHistory,
  getRecentLocations,
  getTrack,
  type LocationInput,
  recordLocations,
} from '../../src/tracking/index.ts';
import { describeWith, testPool } from '../support/database.ts';

const minute = 60_000;
const hour = 60 * minute;
const userId = randomUUID();
const point = (deviceId: string, time: number, more: Partial<LocationInput> = {}): LocationInput => ({
  time: new Date(time),
  deviceId,
  userId,
  appSource: 'mextrack',
  latitude: 1,
  longitude: 2,
  ...more,
});

describeWith(['timescaledb'], 'queries', () => {
  let db: Awaited<ReturnType<typeof testPool<'tracking'>>>;
  beforeAll(async () => {
    db = await testPool('tracking');
  });

  test('pages follow each other without gap or overlap, also where points share a time', async () => {
    const deviceId = randomUUID();
    const now = Date.now();
    const times = [1, 2, 3, 3, 3, 4, 5, 6, 6, 7].map((age) => now - age * minute);
    await recordLocations(
      db,
      times.map((time, index) => point(deviceId, time, { speed: index })),
    );
    const seen: number[] = [];
    let before: Date | undefined;
    for (;;) {
      const page = await getRecentLocations(db, deviceId, { limit: 3, ...(before && { before }) });
      if (page.length === 0) break;
      seen.push(...page.map(({ speed }) => speed ?? -1));
      before = page.at(-1)?.time;
    }
    expect([...seen].sort((one, other) => one - other)).toEqual(times.map((_, index) => index));
  });

  test('latest positions: of an application or of some devices, and only of those that spoke lately', async () => {
    const [van, bike, silent] = [randomUUID(), randomUUID(), randomUUID()];
    const now = Date.now();
    await recordLocations(db, [
      point(van, now - 2 * minute, { speed: 1 }),
      point(van, now - minute, { speed: 2 }),
      point(bike, now - minute, { appSource: 'pshop' }),
      point(silent, now - 30 * hour),
    ]);
    const of = (rows: { deviceId: string }[]) => new Set(rows.map(({ deviceId }) => deviceId));
    const mine = await getLatestLocations(db, { appSource: 'mextrack' });
    expect(of(mine).has(van) && !of(mine).has(bike) && !of(mine).has(silent)).toBe(true);
    expect(mine.find(({ deviceId }) => deviceId === van)).toMatchObject({ speed: 2, latitude: 1 });
    const asked = await getLatestLocations(db, { deviceIds: [van, bike, van, randomUUID()] });
    expect(of(asked)).toEqual(new Set([van, bike]));
    expect(asked).toHaveLength(2);
    expect(of(await getLatestLocations(db, { deviceIds: [silent], hours: 48 }))).toEqual(new Set([silent]));
    expect(await getLatestLocations(db, { deviceIds: [] })).toEqual([]);
    await expect(getLatestLocations(db, { deviceIds: ['x'] })).rejects.toThrow(ValidationError);
  });

  test('history: hours and points together are the raw points, at any alignment of the range', async () => {
    const deviceId = randomUUID();
    const now = Date.now();
    // Three days of points, at odd minutes, and on the very edges of hours.
    const edge = Math.floor(now / hour) * hour;
    const times = Array.from({ length: 400 }, (_, index) => now - index * 11 * minute - 1);
    times.push(...Array.from({ length: 70 }, (_, index) => edge - index * hour));
    await recordLocations(
      db,
      times.map((time) => point(deviceId, time, { speed: 10 })),
    );
    await db.query(
      `CALL refresh_continuous_aggregate('location_hourly', now() - interval '4 days', now() - interval '1 hour')`,
    );

    const offsets = [
      0,
      1,
      17 * minute,
      hour,
      23 * hour,
      24 * hour,
      24 * hour + 1,
      25 * hour,
      26.5 * hour,
      50 * hour,
      72 * hour,
    ];
    for (const start of offsets) {
      for (const end of offsets) {
        const [from, to] = [new Date(edge - start), new Date(edge - end)];
        if (from >= to) continue;
        const { hours, points, rawSince } = await getLocationHistory(db, deviceId, { from, to });
        const wanted = times.filter((time) => time >= from.getTime() && time < to.getTime());
        const counted = hours.reduce((sum, { pointCount }) => sum + pointCount, 0) + points.length;
        expect({ from, to, counted }).toEqual({ from, to, counted: wanted.length });
        expect(points).toHaveLength(wanted.filter((time) => time >= rawSince.getTime()).length);
        expect(new Set(hours.map((row) => row.hour.getTime())).size).toBe(hours.length);
        for (const row of hours) expect(row.lastEvent < rawSince && row.avgSpeed === 10).toBe(true);
      }
    }
  });

  test('history: an hour that the range cuts has its true longitude, across 180° too', async () => {
    const deviceId = randomUUID();
    const begin = Math.floor((Date.now() - 48 * hour) / hour) * hour;
    // From 179.70 to -179.71, eastwards.
    const longitudes = Array.from({ length: 60 }, (_, index) => 179.7 + index / 100);
    await recordLocations(
      db,
      longitudes.map((longitude, index) =>
        point(deviceId, begin + index * minute, { longitude: longitude > 180 ? longitude - 360 : longitude }),
      ),
    );
    const average = async (from: number, to: number) => {
      const range = { from: new Date(begin + from * minute), to: new Date(begin + to * minute) };
      return (await getLocationHistory(db, deviceId, range)).hours[0]?.avgLongitude;
    };
    expect(await average(1, 59)).toBeCloseTo(179.995, 8);
    expect(await average(10, 60)).toBeCloseTo(-179.955, 8);
    expect(await average(1, 11)).toBeCloseTo(179.755, 8);
    expect(await average(40, 50)).toBeCloseTo(-179.855, 8);
  });

  test('history: recent ranges have no hours, an unknown device nothing, and types are those of the tables', async () => {
    const deviceId = randomUUID();
    const now = Date.now();
    await recordLocations(db, [
      point(deviceId, now - hour, { metadata: { a: 1 } }),
      point(deviceId, now - 48 * hour),
    ]);
    const recent = await getLocationHistory(db, deviceId, {
      from: new Date(now - 2 * hour),
      to: new Date(now),
    });
    expect(recent.hours).toEqual([]);
    expect(recent.points).toEqual([
      {
        ...point(deviceId, now - hour),
        metadata: { a: 1 },
        accuracy: null,
        altitude: null,
        speed: null,
        heading: null,
      },
    ]);
    // The hour may be refreshed already: then a point that comes late shows after the next refresh.
    await db.query(
      `CALL refresh_continuous_aggregate('location_hourly', now() - interval '4 days', now() - interval '1 hour')`,
    );
    const range = { from: new Date(now - 72 * hour), to: new Date(now) };
    expect((await getLocationHistory(db, deviceId, range)).hours).toMatchObject([
      {
        deviceId,
        pointCount: 1,
        avgSpeed: null,
        hour: expect.any(Date),
        firstEvent: new Date(now - 48 * hour),
      },
    ]);
    expect(await getLocationHistory(db, randomUUID(), range)).toMatchObject({ hours: [], points: [] });
    await expect(getLocationHistory(db, deviceId, { from: range.to, to: range.from })).rejects.toThrow(
      ValidationError,
    );
  });

  test('a track has at most as many points as asked, spread over all of it, in order', async () => {
    const deviceId = randomUUID();
    const now = Date.now();
    await recordLocations(
      db,
      Array.from({ length: 1_000 }, (_, index) => point(deviceId, now - index * minute)),
    );
    const range = { from: new Date(now - 1_000 * minute), to: new Date(now + 1) };
    for (const [maxPoints, length] of [
      [5_000, 1_000],
      [1_000, 1_000],
      [999, 500],
      [100, 100],
      [7, 7],
      [1, 1],
    ] as const) {
      const track = await getTrack(db, deviceId, { ...range, maxPoints });
      expect([maxPoints, track.length]).toEqual([maxPoints, length]);
      const times = track.map(({ time }) => time.getTime());
      expect(times).toEqual([...times].sort((one, other) => one - other));
    }
    await expect(getTrack(db, deviceId, { ...range, maxPoints: 0 })).rejects.toThrow(ValidationError);
  });
});
