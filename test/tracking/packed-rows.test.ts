// Locations are read from packed text with the same values as from the columns of their own.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Pool } from '../../src/pool.ts';
import { type LocationRow, readLocation, selectedColumns } from '../../src/tracking/packed-rows.ts';
import { withTransaction } from '../../src/transaction.ts';
import { plainTracking } from '../support/tracking.ts';

const deviceId = randomUUID();
const columns = `time, device_id AS "deviceId", user_id AS "userId", app_source AS "appSource", latitude::float8, longitude::float8,
  accuracy::float8, altitude::float8, speed::float8, heading::float8, metadata`;

const insert = (db: Pool, time: string, ...rest: unknown[]) =>
  db.query(
    `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, accuracy, altitude, speed, heading, metadata)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [time, deviceId, randomUUID(), ...rest],
  );

test('times of any precision, year and time zone, numbers of any sign and length, NULLs and commas', async () => {
  const { db } = await plainTracking({ max: 1 });
  const nothing = [null, null, null, null, null];
  await insert(
    db,
    '2026-01-02 03:04:05.678901Z',
    'a,b|c"d',
    -0.00000001,
    179.99999999,
    0,
    -99999.99,
    1.5,
    360,
    {
      a: ',',
    },
  );
  await insert(db, '2026-01-02 03:04:05Z', '', 90, -180, 9999.99, 0.01, 0.1, 12.05, {});
  await insert(db, '2026-01-02 03:04:05.9999Z', 'mextrack', 0, 0, ...nothing);
  await insert(db, '1969-12-31 23:59:59.0001Z', 'mextrack', -1, 1, null, 5, null, 7, null);
  await insert(db, '0099-01-01 00:00:00Z', 'mextrack', 1, 1, ...nothing);
  await insert(db, '9999-12-31 23:59:59.999Z', 'mextrack', 1, 1, ...nothing);
  await insert(db, '10000-01-01 00:00:00Z', 'mextrack', 1, 1, ...nothing);
  await insert(db, 'infinity', 'mextrack', 1, 1, ...nothing);
  for (const zone of ['UTC', 'Europe/London', 'Asia/Kolkata', 'America/St_Johns']) {
    await withTransaction(db, async (transaction) => {
      await transaction.query(`SET LOCAL TimeZone = '${zone}'`);
      const expected = await transaction.query(`SELECT ${columns} FROM location_events ORDER BY time`);
      const { rows } = await transaction.query<LocationRow>(
        `SELECT ${selectedColumns} FROM location_events ORDER BY location_events.time`,
      );
      expect(rows).toHaveLength(8);
      expect([zone, rows.map(readLocation)]).toEqual([zone, expected.rows]);
    });
  }
});
