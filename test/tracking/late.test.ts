// Late points reach the hourly aggregate, just those hours are refreshed, and never where raw points may be gone.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { runPolicies } from '../../scripts/jobs.ts';
import { sqlState } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { insertLocations } from '../../src/tracking/events.ts';
import {
  createLocationWriter,
  getHourlyStats,
  importLocations,
  recordLocations,
  refreshLateLocations,
} from '../../src/tracking/index.ts';
import { withTransaction } from '../../src/transaction.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { point as anyPoint, day, hour } from '../support/tracking-points.ts';

// One person, so that a device has one row for each hour; one moment, so that no test spans two hours.
const [userId, now] = [randomUUID(), Date.now()];
const point = (overrides: Parameters<typeof anyPoint>[0] = {}) => anyPoint({ userId, ...overrides });

describeWith(['timescaledb'], 'late points', () => {
  let db: Pool;
  let url: string;
  beforeAll(async () => {
    url = await migratedDatabase('tracking');
    db = openPool('tracking', url);
    // The policy has been here: what is older than now is no longer computed from raw points.
    await insertLocations(db, [point({ time: new Date(Date.now() - 2 * hour) })]);
    await db.query(
      "CALL refresh_continuous_aggregate('location_hourly', now() - interval '29 days', now() - interval '1 hour')",
    );
  });

  const at = (age: number, minute = 5) => new Date(Math.floor((now - age) / hour) * hour + minute * 60_000);
  const counts = async (deviceId: string) =>
    (await getHourlyStats(db, deviceId, { days: 60 })).map(({ pointCount }) => pointCount);
  const noted = async () =>
    (await db.query('SELECT hour FROM location_late_hours ORDER BY hour')).rows.map((row) => row.hour);
  const ten = 10 * day;

  test('of 10 days ago are in location_hourly after the job, however they came in', async () => {
    const deviceId = randomUUID();
    await recordLocations(db, [point({ deviceId, time: at(ten) })]);
    await withTransaction(db, (transaction) =>
      recordLocations(transaction, [point({ deviceId, time: at(ten, 6) })]),
    );
    {
      await using writer = createLocationWriter(db, { connections: 1 });
      await writer.write(point({ deviceId, time: at(ten - 5 * hour) }));
    }
    await runPolicies(db, ['refresh_continuous_aggregate']);
    expect(await counts(deviceId)).toEqual([]);

    const { ranges, tooOld } = await refreshLateLocations(db);
    expect(await counts(deviceId)).toEqual([1, 2]);
    const begin = at(ten, 0).getTime();
    expect({
      tooOld,
      ranges: ranges.map(({ from, to }) => [from.getTime() - begin, to.getTime() - begin]),
    }).toEqual({
      tooOld: [],
      ranges: [
        [0, hour],
        [5 * hour, 6 * hour],
      ],
    });
    expect(await noted()).toEqual([]);
    expect(await refreshLateLocations(db)).toEqual({ ranges: [], tooOld: [] });
  });

  test('neighbouring hours are one range, and recent points are left to the policy', async () => {
    const deviceId = randomUUID();
    const ages = [12 * day, 12 * day - hour, 12 * day - 2 * hour, 2 * day, 0];
    await recordLocations(
      db,
      ages.map((age) => point({ deviceId, time: age === 0 ? new Date() : at(age) })),
    );
    expect(await noted()).toHaveLength(3);
    const { ranges } = await refreshLateLocations(db);
    expect(ranges).toEqual([{ from: at(12 * day, 0), to: at(12 * day - 3 * hour, 0) }]);
  });

  test('a transaction that rolls back leaves no note', async () => {
    const rolledBack = withTransaction(db, async (transaction) => {
      await recordLocations(transaction, [point({ time: at(ten) })]);
      throw new Error('mine');
    });
    expect(String(await failure(rolledBack))).toContain('mine');
    expect(await noted()).toEqual([]);
  });

  test('an hour whose raw points may be dropped keeps its summary', async () => {
    const deviceId = randomUUID();
    const old = at(31 * day);
    await insertLocations(db, [point({ deviceId, time: old }), point({ deviceId, time: old })]);
    await db.query(
      "CALL refresh_continuous_aggregate('location_hourly', now() - interval '33 days', now() - interval '30 days')",
    );
    expect(await counts(deviceId)).toEqual([2]);
    await runPolicies(db, ['retention']);

    const { ranges, tooOld } = await refreshLateLocations(db);
    expect({ ranges, tooOld }).toEqual({ ranges: [], tooOld: [at(31 * day, 0)] });
    expect(await counts(deviceId)).toEqual([2]);
    expect(await noted()).toEqual([]);
  });

  test('a note is a whole hour, and one of an hour that has not come refreshes nothing', async () => {
    const note = (time: string) =>
      db.query(`INSERT INTO location_late_hours (hour) VALUES (${time})`).then(() => 'noted', sqlState);
    expect(await note("'infinity'")).toBe('23514');
    expect(await note("'-infinity'")).toBe('23514');
    expect(await note("date_trunc('hour', now()) + interval '1 minute'")).toBe('23514');
    expect(await note("date_trunc('hour', now()) + interval '10 years'")).toBe('noted');
    expect(await refreshLateLocations(db)).toEqual({ ranges: [], tooOld: [] });
    expect(await noted()).toEqual([]);
  });

  test('db:refresh-late is the same job, and says what it did', async () => {
    const deviceId = randomUUID();
    await recordLocations(db, [point({ deviceId, time: at(11 * day) })]);
    const { code, stdout } = await runCli(['refresh-late'], environmentFor('tracking', url));
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `refreshed ${at(11 * day, 0).toISOString()} to ${at(11 * day - hour, 0).toISOString()}\n`,
    });
    expect(await counts(deviceId)).toEqual([1]);
    const again = await runCli(['refresh-late', '--json'], environmentFor('tracking', url));
    expect(JSON.parse(again.stdout)).toEqual({ ranges: [], tooOld: [] });
  });

  test('an import refreshes what it touched, never what may be dropped', async () => {
    const [deviceId, kept] = [randomUUID(), randomUUID()];
    const old = at(31 * day);
    await insertLocations(db, [point({ deviceId: kept, time: old })]);
    await db.query(
      "CALL refresh_continuous_aggregate('location_hourly', now() - interval '33 days', now() - interval '30 days')",
    );
    await runPolicies(db, ['retention']);
    await db.query('DELETE FROM location_late_hours');

    const ages = [31 * day, 20 * day, 3 * day, 2 * hour];
    const result = await importLocations(
      db,
      ages.map((age) => point({ deviceId, time: at(age) })),
    );
    expect(result).toMatchObject({ loaded: 4, rejected: 0, from: old, olderThanRetention: 1 });
    expect(result.refreshed).toEqual(
      [20 * day, 3 * day, 2 * hour].map((age) => ({ from: at(age, 0), to: at(age - hour, 0) })),
    );
    expect(await counts(deviceId)).toEqual([1, 1, 1]);
    expect(await counts(kept)).toEqual([1]);
    expect(await noted()).toEqual([]);
  });
});

describeWith(['timescaledb', 'concurrent-sessions'], 'two jobs at once', () => {
  test('refresh the same hours, and both end well', async () => {
    const db = openPool('tracking', await migratedDatabase('tracking'));
    const points = Array.from({ length: 40 }, (_, index) =>
      point({ time: new Date(Date.now() - 10 * day - index * 3 * hour) }),
    );
    await recordLocations(db, points);
    await Promise.all([refreshLateLocations(db), refreshLateLocations(db)]);
    expect((await db.query('SELECT 1 FROM location_late_hours')).rowCount).toBe(0);
    expect((await db.query('SELECT 1 FROM location_hourly')).rowCount).toBe(40);
  });
});
