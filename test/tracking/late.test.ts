// Late points reach the hourly aggregate by TimescaleDB's own policy, whichever way they were written, and no summary is lost.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { locationEvents } from '../../schema/tracking.ts';
import { runPolicies } from '../../scripts/simulation/jobs.ts';
import { sqlState } from '../../src/errors.ts';
import { migrate } from '../../src/migrations/index.ts';
import {
  createLocationWriter,
  getHourlyStats,
  importLocations,
  recordLocations,
} from '../../src/tracking/index.ts';
import { insertLocations } from '../../src/tracking/record.ts';
import { withTransaction } from '../../src/transaction.ts';
import { describeWith, emptyDatabase, migratedDatabase, openPool, testPool } from '../support/database.ts';
import { switchOffPolicies } from '../support/templates.ts';
import { point as anyPoint, day, hour } from '../support/tracking-points.ts';

type Tracking = Awaited<ReturnType<typeof testPool<'tracking'>>>;

// One person, so that a device has one row for each hour; one moment, so that no test spans two hours.
const [userId, now] = [randomUUID(), Date.now()];
const point = (overrides: Parameters<typeof anyPoint>[0] = {}) => anyPoint({ userId, ...overrides });
const at = (age: number, minute = 5) => new Date(Math.floor((now - age) / hour) * hour + minute * 60_000);
const counts = async (db: Tracking, deviceId: string) =>
  (await getHourlyStats(db, deviceId, { days: 60 })).map(({ pointCount }) => pointCount);
/** As if the policies had run while the points came: nothing of the last 40 days is left to refresh. */
const refreshAll = (db: Tracking) =>
  db.query(
    "CALL refresh_continuous_aggregate('location_hourly', now() - interval '40 days', now() - interval '1 hour')",
  );
const refresh = (db: Tracking) => runPolicies(db, ['refresh_continuous_aggregate']);

describeWith(['timescaledb'], 'late points', () => {
  let db: Tracking;
  beforeAll(async () => {
    db = await testPool('tracking');
    await insertLocations(db, [point({ time: at(2 * hour) })]);
    await refreshAll(db);
  });

  test('are in location_hourly after the policies ran, however they came in', async () => {
    const deviceId = randomUUID();
    const of = (age: number, minute?: number) => point({ deviceId, time: at(age, minute) });
    await recordLocations(db, [of(10 * day)]);
    await withTransaction(db, (transaction) => recordLocations(transaction, [of(10 * day, 6)]));
    {
      await using writer = createLocationWriter(db, { connections: 1 });
      await writer.write(of(12 * day));
    }
    // What no book of this library could have noted.
    await db.orm.insert(locationEvents).values(of(15 * day));
    const rows = Array.from({ length: 503 }, (_, second) => ({
      ...of(15 * day),
      time: new Date(at(15 * day).getTime() + second),
    }));
    await db.orm.insert(locationEvents).values(rows);
    // Without the refresh that importLocations does by itself, and compressed where the server can.
    await withTransaction(db, (transaction) => importLocations(transaction, [of(20 * day)]));
    expect(await counts(db, deviceId)).toEqual([]);
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual([2, 1, 504, 1]);
  });

  test('reach days that are compressed, and so does what is deleted there', async () => {
    const deviceId = randomUUID();
    const times = [9, 16, 23].map((days) => at(days * day));
    await recordLocations(
      db,
      times.map((time) => point({ deviceId, time })),
    );
    await runPolicies(db, ['refresh_continuous_aggregate', 'compression']);
    await db.orm.insert(locationEvents).values(times.map((time) => point({ deviceId, time })));
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual([2, 2, 2]);
    await db.query('DELETE FROM location_events WHERE device_id = $1', [deviceId]);
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual([]);
  });

  test('are found whatever the settings of the session are', async () => {
    const deviceId = randomUUID();
    await withTransaction(db, async (transaction) => {
      await transaction.query("SET LOCAL datestyle = 'SQL, DMY'");
      await recordLocations(transaction, [point({ deviceId, time: at(11 * day) })]);
    });
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual([1]);
  });

  test('an import refreshes what it touched at once, never what may be dropped', async () => {
    const [deviceId, kept] = [randomUUID(), randomUUID()];
    const old = at(31 * day);
    await insertLocations(db, [point({ deviceId: kept, time: old })]);
    await refreshAll(db);
    await runPolicies(db, ['retention']);

    const ages = [31 * day, 20 * day, 3 * day, 2 * hour];
    const result = await importLocations(
      db,
      ages.map((age) => point({ deviceId, time: at(age) })),
    );
    expect(result).toMatchObject({ loaded: 4, rejected: 0, from: old, olderThanRetention: 1 });
    expect(result.refreshed).toEqual(
      [20 * day, 3 * day, 2 * hour].map((age) => ({ from: at(age, 0), to: at(age - hour, 0) })),
    );
    expect(await counts(db, deviceId)).toEqual([1, 1, 1]);
    await refresh(db);
    expect(await counts(db, kept)).toEqual([1]);
  });
});

describeWith(['timescaledb'], 'where the retention drops raw points', () => {
  const deviceId = randomUUID();
  /** A point in each hour from 27 to 33 days ago: the edge of the retention lies inside of one chunk. */
  const summarised = async () => {
    const db = await testPool('tracking');
    const ages = Array.from({ length: 6 * 24 }, (_, index) => 27 * day + index * hour);
    await insertLocations(
      db,
      ages.map((age) => point({ deviceId, time: at(age) })),
    );
    await insertLocations(db, [point({ time: at(2 * hour) })]);
    await refreshAll(db);
    return { db, all: ages.map(() => 1) };
  };
  const oldestRaw = async (db: Tracking) =>
    (
      await db.query<{ age: number }>(
        'SELECT extract(epoch FROM now() - min(time))::int AS age FROM location_events',
      )
    ).rows[0]?.age ?? 0;

  test('no summary goes, be the retention late, in time, or early by two days', async () => {
    const { db, all } = await summarised();
    // Late: raw points of 33 days are still there, and one comes too late for any window.
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual(all);
    await db.orm.insert(locationEvents).values(point({ deviceId, time: at(32 * day) }));
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual(all);

    // In time: the chunk that is half past 30 days stays, those before it are gone.
    await runPolicies(db, ['retention', 'refresh_continuous_aggregate']);
    expect(await oldestRaw(db)).toBeGreaterThan((30 * day - hour) / 1000);
    expect(await oldestRaw(db)).toBeLessThan((31 * day + hour) / 1000);
    expect(await counts(db, deviceId)).toEqual(all);

    // A point into a day that is gone makes a chunk of its own; the day must not be summarised again from it.
    await db.orm.insert(locationEvents).values(point({ deviceId, time: at(32 * day) }));
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual(all);

    // Early: chunks go as soon as their end leaves the window. Points of the others still arrive.
    await db.query("SELECT drop_chunks('location_events', older_than => interval '28 days')");
    await db.orm.insert(locationEvents).values(point({ deviceId, time: at(27 * day) }));
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual([2, ...all.slice(1)]);
  });
});

describeWith(['timescaledb'], 'the migration that adds the policy', () => {
  test('lets it wait where points of its window were dropped by hand', async () => {
    const db = openPool('tracking', await emptyDatabase('tracking'));
    await migrate(db, 'tracking', { to: '0009_late_hour_check' });
    // A compression that the scheduler has begun would deadlock with drop_chunks.
    await switchOffPolicies(db);
    const deviceId = randomUUID();
    await insertLocations(
      db,
      [25, 22, 10].map((days) => point({ deviceId, time: at(days * day) })),
    );
    await refreshAll(db);
    await db.query("SELECT drop_chunks('location_events', older_than => interval '20 days')");
    await migrate(db, 'tracking');
    const { rows } = await db.query<{ days: number }>(
      `SELECT extract(epoch FROM next_start - now())::float8 / 86400 AS days FROM timescaledb_information.jobs
       WHERE config->>'start_offset' = '28 days'`,
    );
    // 29 days after the newest hour that has no points any more.
    expect(rows[0]?.days).toBeGreaterThan(6.9);
    expect(rows[0]?.days).toBeLessThan(7.1);
    expect(await counts(db, deviceId)).toEqual([1, 1, 1]);
  });
});

describeWith(['timescaledb', 'concurrent-sessions'], 'an import and the policies at once', () => {
  test('refresh the same hours, and nothing is lost', async () => {
    const db = await testPool('tracking');
    const deviceId = randomUUID();
    const ages = Array.from({ length: 40 }, (_, index) => 10 * day + index * 3 * hour);
    const points = ages.map((age) => point({ deviceId, time: at(age) }));
    await recordLocations(db, points);
    // A policy that meets the import leaves the hours to its next run.
    const policies = refresh(db).catch((error) => {
      if (sqlState(error) !== '55P03') throw error;
    });
    const [imported] = await Promise.all([importLocations(db, points), policies]);
    expect(imported.refreshError).toBeUndefined();
    await refresh(db);
    expect(await counts(db, deviceId)).toEqual(ages.map(() => 2));
  });
});

describeWith(['timescaledb', 'background-workers'], 'the background workers of TimescaleDB', () => {
  test('bring late points into the aggregate, beside the retention', async () => {
    const url = await migratedDatabase('tracking');
    const db = openPool('tracking', url);
    const deviceId = randomUUID();
    const ages = Array.from({ length: 6 * 24 }, (_, index) => 27 * day + index * hour);
    await insertLocations(
      db,
      ages.map((age) => point({ deviceId, time: at(age) })),
    );
    await insertLocations(db, [point({ time: at(2 * hour) })]);
    await refreshAll(db);
    await db.orm
      .insert(locationEvents)
      .values([27 * day, 8 * day].map((age) => point({ deviceId, time: at(age) })));
    // The launcher looks for new databases once a minute. All at once, in whatever order the scheduler takes them.
    await db.query('SELECT _timescaledb_functions.start_background_workers()');
    await db.query(
      `SELECT alter_job(job_id, scheduled => true, next_start => now()) FROM timescaledb_information.jobs
       WHERE hypertable_name IS NOT NULL`,
    );
    const wanted = [1, 2, ...ages.slice(1).map(() => 1)];
    await expect.poll(() => counts(db, deviceId), { interval: 500 }).toEqual(wanted);
    const dropped = async () =>
      (
        await db.query(
          "SELECT FROM timescaledb_information.chunks WHERE hypertable_name = 'location_events' AND range_end < now() - interval '30 days'",
        )
      ).rowCount;
    await expect.poll(dropped, { interval: 500 }).toBe(0);
    await db.query(
      `SELECT alter_job(job_id, next_start => now()) FROM timescaledb_information.jobs
       WHERE proc_name = 'policy_refresh_continuous_aggregate'`,
    );
    const failures = async () =>
      (
        await db.query<{ runs: number; failed: number }>(
          // TimescaleDB 2.23 compresses no chunk that the retention drops meanwhile, and calls that a failure.
          `SELECT sum(total_runs)::int AS runs,
             (sum(total_failures) FILTER (WHERE proc_name <> 'policy_compression'))::int AS failed
           FROM timescaledb_information.job_stats JOIN timescaledb_information.jobs USING (job_id)
           WHERE job_stats.hypertable_name IS NOT NULL`,
        )
      ).rows[0];
    await expect.poll(async () => (await failures())?.runs, { interval: 500 }).toBeGreaterThanOrEqual(7);
    expect((await failures())?.failed).toBe(0);
    expect(await counts(db, deviceId)).toEqual(wanted);
  });
});
