// The wall through location_events: each application reads and writes its own points by the library's own calls.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { applyAccess } from '../../scripts/access/apply.ts';
import { checkAccess } from '../../scripts/access/check.ts';
import { accessMatrix } from '../../scripts/access/matrix.ts';
import {
  getHourlyStats,
  getRecentLocations,
  type Pool,
  recordLocations,
  withTransaction,
} from '../../src/index.ts';
import {
  createLocationWriter,
  getLatestLocations,
  getLocationHistory,
  getTrack,
  importLocations,
} from '../../src/tracking/index.ts';
import {
  latestOfApplicationQuery,
  latestOfDevicesQuery,
  recentLocationsQuery,
} from '../../src/tracking/reads.ts';
import { rowsForCopy } from '../../src/tracking/record.ts';
import { ArrangedServer, point, recordBoth, trackedDevices } from '../support/access.ts';

const hour = 3_600_000;
const day = 24 * hour;
const { device, shared } = trackedDevices;

const server = new ArrangedServer();
const mextrack = <Result>(work: (pool: Pool) => Promise<Result>) =>
  server.as('mextrack_app', 'tracking', work);
const pshop = <Result>(work: (pool: Pool) => Promise<Result>) => server.as('pshop_app', 'tracking', work);
const denied = { code: '42501' };

beforeAll(async () => {
  await server.arrange(['tracking']);
  await recordBoth(server);
});

test('the calls of the library answer each application from its own points', async () => {
  const range = { from: new Date(Date.now() - 5 * day), to: new Date(Date.now() + hour) };
  const see = async (db: Pool) => {
    const history = await getLocationHistory(db, shared, range);
    const rows = [
      ...(await getRecentLocations(db, shared, { hours: 100 })),
      ...(await getHourlyStats(db, shared, { days: 20 })),
      ...(await getLatestLocations(db, { deviceIds: [shared, device] })),
      ...(await getLatestLocations(db, { appSource: 'mextrack' })),
      ...(await getLatestLocations(db, { appSource: 'pshop' })),
      ...(await getTrack(db, shared, { ...range, maxPoints: 100 })),
      ...history.hours,
      ...history.points,
    ];
    return { sources: [...new Set(rows.map(({ appSource }) => appSource))], rows: rows.length };
  };
  // 3 recent, 4 hours, 2 devices, 2 devices and 0, 3 of the track, 1 hour and 2 points.
  expect(await mextrack(see)).toEqual({ sources: ['mextrack'], rows: 17 });
  // One device instead of two.
  expect(await pshop(see)).toEqual({ sources: ['pshop'], rows: 15 });
});

test('a point of another application is not taken, alone or in a batch', async () => {
  const forged = point('pshop', { deviceId: randomUUID() });
  await expect(mextrack((db) => recordLocations(db, [forged]))).rejects.toMatchObject({ code: '44000' });
  const batch = [point('mextrack', { deviceId: forged.deviceId }), forged];
  await expect(mextrack((db) => recordLocations(db, batch))).rejects.toMatchObject({ code: '44000' });
  const { rowCount } = await server
    .superuser('tracking')
    .query('SELECT 1 FROM location_events WHERE device_id = $1', [forged.deviceId]);
  expect(rowCount).toBe(0);
});

test('batches, imports and the writer go through its view as well, points of 10 days ago included', async () => {
  const deviceId = randomUUID();
  const track = (count: number, begin: number) =>
    Array.from({ length: count }, (_, n) =>
      point('mextrack', { deviceId, time: new Date(begin + n * 1_000) }),
    );
  const ten = Date.now() - 10 * day;
  const stats = await mextrack(async (db) => {
    // As many as would be a COPY into the table.
    await recordLocations(db, track(rowsForCopy + 1, Date.now() - hour));
    const imported = await importLocations(db, track(6_000, ten));
    const writer = createLocationWriter(db, { connections: 1 });
    await Promise.all(track(700, Date.now() - 5 * hour).map((event) => writer.write(event)));
    const forged = writer.write(point('pshop', { deviceId }));
    await expect(forged).rejects.toMatchObject({ code: '44000' });
    await writer.close();
    return { imported: imported.loaded, refreshed: imported.refreshed, ...writer.stats };
  });
  expect(stats).toMatchObject({ imported: 6_000, refreshed: [], written: 700, rejected: 1, retries: 0 });
  const superuser = server.superuser('tracking');
  const counted = await superuser.query(
    'SELECT count(*)::int AS n FROM location_events WHERE device_id = $1',
    [deviceId],
  );
  expect(counted.rows[0]?.n).toBe(rowsForCopy + 1 + 6_000 + 700);
  expect((await superuser.query('SELECT 1 FROM location_writers')).rowCount).toBe(0);
});

test('points that were taken stay as they are', async () => {
  for (const statement of [
    `UPDATE location_events SET speed = 1`,
    `DELETE FROM location_events`,
    `INSERT INTO pshop.location_events SELECT * FROM location_events`,
    `INSERT INTO public.location_events SELECT * FROM location_events`,
  ]) {
    await expect(mextrack((db) => db.query(statement))).rejects.toMatchObject(denied);
  }
});

test('a search_path of its own choice opens nothing', async () => {
  for (const path of ['public', 'pshop, public', '_timescaledb_internal, public']) {
    const attempt = mextrack((db) =>
      withTransaction(db, async (transaction) => {
        await transaction.query(`SET LOCAL search_path = ${path}`);
        return transaction.query('SELECT * FROM location_events');
      }),
    );
    await expect(attempt).rejects.toMatchObject(denied);
  }
});

test('not even a function that tells what it is shown sees the points of another application', async () => {
  const superuser = server.superuser('tracking');
  await superuser.query(`CREATE FUNCTION public.tell(source text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 SET search_path = '' AS
    $$ BEGIN IF source <> 'mextrack' THEN RAISE EXCEPTION 'saw %', source; END IF; RETURN true; END $$`);
  await superuser.query(`GRANT EXECUTE ON FUNCTION public.tell TO "${server.role('mextrack_app')}"`);
  try {
    const counts = await mextrack(async (db) => [
      (await db.query('SELECT 1 FROM location_events WHERE tell(app_source) AND device_id = $1', [shared]))
        .rowCount,
      (await db.query('SELECT 1 FROM location_hourly WHERE tell(app_source) AND device_id = $1', [shared]))
        .rowCount,
    ]);
    expect(counts).toEqual([4, 4]);
    // The function does tell: without the wall it raises.
    await expect(superuser.query('SELECT 1 FROM location_events WHERE tell(app_source)')).rejects.toThrow(
      'saw',
    );
  } finally {
    await superuser.query('DROP FUNCTION public.tell');
  }
});

test('a writer keeps its own row, and neither sees nor makes those of others', async () => {
  const insert = 'INSERT INTO location_writers (last_batch) VALUES (7) RETURNING id';
  const { rows } = await mextrack((db) => db.query<{ id: string }>(insert));
  const id = rows[0]?.id;
  const change = 'UPDATE location_writers SET last_batch = last_batch + 1 WHERE id = $1';
  expect((await mextrack((db) => db.query(change, [id]))).rowCount).toBe(1);
  await pshop(async (db) => {
    expect((await db.query('SELECT 1 FROM location_writers')).rowCount).toBe(0);
    expect((await db.query(change, [id])).rowCount).toBe(0);
    expect((await db.query('DELETE FROM location_writers')).rowCount).toBe(0);
    const forge = 'INSERT INTO location_writers (role_name) VALUES ($1)';
    await expect(db.query(forge, [server.role('mextrack_app')])).rejects.toMatchObject(denied);
  });
  const takeOver = 'UPDATE location_writers SET role_name = $1';
  await expect(mextrack((db) => db.query(takeOver, [server.role('pshop_app')]))).rejects.toMatchObject(
    denied,
  );
  expect(
    (await mextrack((db) => db.query('DELETE FROM location_writers WHERE id = $1', [id]))).rowCount,
  ).toBe(1);
});

test('points and the number of their batch are written in one statement', async () => {
  const deviceId = randomUUID();
  const write = `WITH writer AS (
      UPDATE location_writers SET last_batch = 1 WHERE id = $1 AND last_batch = 0 RETURNING id
    )
    INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude)
    SELECT now(), $2, $2, $3, 1, 2 WHERE EXISTS (SELECT FROM writer)`;
  await mextrack(async (db) => {
    const { rows } = await db.query<{ id: string }>(
      'INSERT INTO location_writers DEFAULT VALUES RETURNING id',
    );
    const id = rows[0]?.id;
    await expect(db.query(write, [id, deviceId, 'pshop'])).rejects.toMatchObject({ code: '44000' });
    expect((await db.query(write, [id, deviceId, 'mextrack'])).rowCount).toBe(1);
    expect((await db.query(write, [id, deviceId, 'mextrack'])).rowCount).toBe(0);
    expect(await getRecentLocations(db, deviceId)).toHaveLength(1);
    await db.query('DELETE FROM location_writers WHERE id = $1', [id]);
  });
});

test('through its view, an application finds its devices by the index of its own points', async () => {
  // Half a day of fifty devices, in the order in which they report, a day ago.
  const devices = Array.from({ length: 50 }, (_, index) => ({
    deviceId: randomUUID(),
    appSource: index % 2 === 0 ? 'mextrack' : 'pshop',
  }));
  const start = Date.now() - 36 * hour;
  const events = Array.from({ length: 200 }, (_, index) =>
    devices.map(({ deviceId, appSource }) =>
      point(appSource, { deviceId, time: new Date(start + index * 200_000) }),
    ),
  ).flat();
  await mextrack((db) =>
    recordLocations(
      db,
      events.filter(({ appSource }) => appSource === 'mextrack'),
    ),
  );
  await pshop((db) =>
    recordLocations(
      db,
      events.filter(({ appSource }) => appSource === 'pshop'),
    ),
  );
  await server.superuser('tracking').query('ANALYZE location_events');
  const plan = ({ text, parameters }: ReturnType<typeof recentLocationsQuery>) =>
    mextrack(async (db) => {
      // A few thousand rows may be read faster some other way: the question is whether the index serves.
      await db.query('SET enable_seqscan = off; SET enable_bitmapscan = off');
      const { rows } = await db.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, parameters);
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    });
  for (const query of [
    recentLocationsQuery(devices[0]?.deviceId ?? '', { hours: 40 }),
    latestOfApplicationQuery('mextrack', 40),
  ]) {
    const found = await plan(query);
    expect(found).toMatch(/Index Scan using \S*idx_location_mextrack/);
    expect(found).not.toMatch(/-> +(Incremental )?Sort|Seq Scan/);
  }
  // This plan may sort: the query orders the ids that it was given.
  const found = await plan(latestOfDevicesQuery([devices[0]?.deviceId ?? ''], 40));
  expect(found).toMatch(/Index Scan using \S*idx_location_mextrack/);
});

test.each([
  ['ALTER VIEW mextrack.location_events RESET (security_barrier)', 'is without security_barrier=true'],
  ['ALTER VIEW pshop.location_events RESET (check_option)', 'is without check_option=cascaded'],
  [
    'ALTER TABLE location_writers DISABLE ROW LEVEL SECURITY',
    'row security of public.location_writers is off',
  ],
  ['CREATE POLICY more ON location_writers USING (true)', 'public.location_writers has the policy more'],
  [
    'ALTER POLICY own_rows ON location_writers USING (true)',
    'the policy own_rows of public.location_writers',
  ],
  [
    `CREATE OR REPLACE VIEW mextrack.location_hourly WITH (security_barrier = true) AS SELECT * FROM (SELECT
       hour, device_id, user_id, app_source, point_count, avg_latitude, avg_longitude, avg_speed, max_speed, first_event, last_event
     FROM public.location_hourly) AS hours`,
    'mextrack.location_hourly does not show the rows of mextrack alone',
  ],
])('a hole in the views is found and closed: %s', async (hole, found) => {
  const superuser = server.superuser('tracking');
  const matrix = accessMatrix('tracking', server.prefix);
  await superuser.query(hole);
  expect(await checkAccess(superuser, matrix)).toEqual([
    expect.objectContaining({ what: expect.stringContaining(found) }),
  ]);
  await applyAccess(superuser, matrix);
  expect(await checkAccess(superuser, matrix)).toEqual([]);
});
