// Tracking: points go in and come out as they were, through the index, and outlive their raw rows as hours.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { locationEvents, locationHourly } from '../../schema/tracking.ts';
import { runPolicies } from '../../scripts/simulation/jobs.ts';
import { ValidationError, withTransaction } from '../../src/index.ts';
import {
  getHourlyStats,
  getRecentLocations,
  LocationsRejectedError,
  recordLocation,
  recordLocations,
} from '../../src/tracking/index.ts';
import { latestOfDevicesQuery, recentLocationsQuery } from '../../src/tracking/reads.ts';
import { insertLocations } from '../../src/tracking/record.ts';
import { describeWith, testPool } from '../support/database.ts';
import { day, hour, point } from '../support/tracking-points.ts';

describeWith(['timescaledb'], 'tracking', () => {
  let db: Awaited<ReturnType<typeof testPool<'tracking'>>>;
  beforeAll(async () => {
    db = await testPool('tracking');
  });

  test('a full point is read back as it was written', async () => {
    const event = point({
      accuracy: 4.25,
      altitude: -12.5,
      speed: 88.88,
      heading: 359.99,
      metadata: { battery: 0.5, note: 'a "quoted", \\ {braced} word', list: [1, null] },
    });
    await recordLocation(db, event);
    expect(await getRecentLocations(db, event.deviceId)).toEqual([event]);
    const typed = await db.orm.select().from(locationEvents);
    expect(typed).toEqual([event]);
  });

  test('what a point leaves out is null', async () => {
    const event = point({ appSource: 'pshop' });
    await recordLocation(db, event);
    expect(await getRecentLocations(db, event.deviceId)).toEqual([
      { ...event, accuracy: null, altitude: null, speed: null, heading: null, metadata: null },
    ]);
  });

  test('many points take a few statements, and all or none inside of a transaction', async () => {
    const deviceId = randomUUID();
    const now = Date.now();
    const events = Array.from({ length: 12_001 }, (_, index) =>
      point({ deviceId, time: new Date(now - index * 1000) }),
    );
    expect(await recordLocations(db, events)).toEqual({ written: 12_001, rejected: [] });
    expect(await recordLocations(db, [])).toEqual({ written: 0, rejected: [] });
    expect(await getRecentLocations(db, deviceId, { limit: 20_000 })).toHaveLength(12_001);
    expect((await getRecentLocations(db, deviceId)).length).toBe(10_000);

    const other = randomUUID();
    const mixed = events.slice(0, 6_000).map((event) => ({ ...event, deviceId: other }));
    const work = withTransaction(db, async (transaction) => {
      await recordLocations(transaction, mixed);
      throw new Error('undo');
    });
    await expect(work).rejects.toThrow('undo');
    expect(await getRecentLocations(db, other)).toEqual([]);
  });

  test('a batch with points that do not fit is refused with each index and reason, or loaded without them', async () => {
    const good = point({ speed: 12.345 });
    const batch = [good, point({ latitude: 91 }), good, point({ time: new Date(Number.NaN) })];
    const error = await recordLocations(db, batch).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LocationsRejectedError);
    expect((error as LocationsRejectedError).rejected).toEqual([
      { index: 1, reason: 'latitude is 91, not from -90 to 90' },
      { index: 3, reason: 'time is not a valid Date' },
    ]);
    expect(await getRecentLocations(db, good.deviceId)).toEqual([]);
    expect(await recordLocations(db, batch, { onInvalid: 'skip' })).toMatchObject({
      written: 2,
      rejected: [{ index: 1 }, { index: 3 }],
    });
    expect(await getRecentLocations(db, good.deviceId)).toMatchObject([{ speed: 12.35 }, { speed: 12.35 }]);
  });

  test.each([
    { latitude: 90.1 },
    { latitude: Number.NaN },
    { longitude: -180.1 },
    { heading: 361 },
    { speed: -1 },
    { accuracy: -1 },
    { speed: Number.NaN },
    { altitude: Number.NaN },
  ])('the table itself refuses %j', async (wrong) => {
    await expect(insertLocations(db, [point(wrong)])).rejects.toMatchObject({
      code: expect.stringMatching(/^23514|^22/),
    });
  });

  test('recent points are those of the last hours, newest first', async () => {
    const deviceId = randomUUID();
    const ages = [1, 5, 23, 25, 47];
    await recordLocations(
      db,
      ages.map((age) => point({ deviceId, time: new Date(Date.now() - age * hour), speed: age })),
    );
    const speeds = async (options: Parameters<typeof getRecentLocations>[2]) =>
      (await getRecentLocations(db, deviceId, options)).map(({ speed }) => speed);
    expect(await speeds({})).toEqual([1, 5, 23]);
    expect(await speeds({ hours: 48 })).toEqual([1, 5, 23, 25, 47]);
    expect(await speeds({ hours: 48, limit: 2 })).toEqual([1, 5]);
    expect(await getRecentLocations(db, randomUUID())).toEqual([]);
    await expect(getRecentLocations(db, deviceId, { hours: 0 })).rejects.toThrow(ValidationError);
    await expect(getRecentLocations(db, deviceId, { limit: Number.NaN })).rejects.toThrow(ValidationError);
    await expect(getRecentLocations(db, "'; DROP TABLE location_events; --")).rejects.toThrow(
      ValidationError,
    );
  });

  test('the query of recent points uses idx_location_device and never sorts', async () => {
    // A day of 250 devices, in the order in which they report.
    const devices = Array.from({ length: 250 }, () => point());
    const now = Date.now();
    const events = Array.from({ length: 100 }, (_, index) =>
      devices.map((device) => ({ ...device, time: new Date(now - index * 850_000) })),
    ).flat();
    await recordLocations(db, events.reverse());
    await db.query('ANALYZE location_events');
    const { text, parameters } = recentLocationsQuery(devices[7]?.deviceId ?? '');
    const { rows } = await withTransaction(db, async (transaction) => {
      // A table this small is read whole or by bitmap, and sorted. Without those, a Sort shows that the order of
      // the index does not serve the query.
      await transaction.query('SET LOCAL enable_bitmapscan = off');
      await transaction.query('SET LOCAL enable_seqscan = off');
      return transaction.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, parameters);
    });
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toMatch(/Index Scan using \S*idx_location_device/);
    expect(plan).not.toMatch(/Sort|Seq Scan/);
  });

  test('no query looks for a silent device among the points of a small fleet', async () => {
    const own = await testPool('tracking');
    const devices = [point(), point(), point()];
    const now = Date.now();
    const events = Array.from({ length: 2_000 }, (_, index) =>
      devices.map((device) => ({ ...device, time: new Date(now - index * 40_000) })),
    ).flat();
    await recordLocations(own, events.reverse());
    await own.query('ANALYZE location_events');
    const silent = randomUUID();
    for (const { text, parameters } of [
      recentLocationsQuery(silent, { limit: 100 }),
      latestOfDevicesQuery([silent], 24),
    ]) {
      for (const mode of ['force_custom_plan', 'force_generic_plan']) {
        const { rows } = await withTransaction(own, async (transaction) => {
          await transaction.query(`SET LOCAL plan_cache_mode = ${mode}`);
          return transaction.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, parameters);
        });
        const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
        expect(plan, `${mode}: ${text}`).not.toContain('location_events_time_idx');
        expect(plan).toMatch(/idx_location_device/);
      }
    }
  });

  test('hourly statistics answer before any refresh ran, and through Drizzle', async () => {
    const { deviceId, userId } = point();
    const start = Math.floor((Date.now() - 3 * hour) / hour) * hour;
    await recordLocations(
      db,
      [10, 20, 60].map((speed, index) =>
        point({ deviceId, userId, latitude: 10, time: new Date(start + index * 60_000), speed }),
      ),
    );
    const stats = await getHourlyStats(db, deviceId);
    expect(stats).toMatchObject([
      {
        hour: new Date(start),
        deviceId,
        appSource: 'mextrack',
        pointCount: 3,
        avgLatitude: 10,
        avgSpeed: 30,
        maxSpeed: 60,
        firstEvent: new Date(start),
        lastEvent: new Date(start + 120_000),
      },
    ]);
    const typed = (await db.orm.select().from(locationHourly)).filter((row) => row.deviceId === deviceId);
    expect(typed).toEqual(stats);
    await expect(getHourlyStats(db, deviceId, { days: -1 })).rejects.toThrow(ValidationError);
  });

  test('hours survive: the retention job drops the raw rows, a later refresh keeps their summary', async () => {
    const deviceId = randomUUID();
    const age = (days: number) => new Date(Math.floor((Date.now() - days * day) / hour) * hour + 60_000);
    // 35 days old as far as the retention is concerned, refreshed when it was fresh: past the check of their age.
    await insertLocations(
      db,
      [35, 34.5, 3].map((days) => point({ deviceId, time: age(days), speed: days })),
    );
    await db.query(
      `CALL refresh_continuous_aggregate('location_hourly', now() - interval '40 days', now() - interval '33 days')`,
    );
    const hours = async () =>
      (await getHourlyStats(db, deviceId, { days: 60 })).map(({ pointCount }) => pointCount);
    const raw = async () =>
      (await db.query('SELECT 1 FROM location_events WHERE device_id = $1', [deviceId])).rowCount;
    expect([await raw(), await hours()]).toEqual([3, [1, 1, 1]]);

    await runPolicies(db, ['compression', 'retention', 'refresh_continuous_aggregate', 'retention']);
    expect([await raw(), await hours()]).toEqual([1, [1, 1, 1]]);
  });
});
