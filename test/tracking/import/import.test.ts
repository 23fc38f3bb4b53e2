// importLocations: any source, all good points or none, on a table or through a view.
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Pool } from '../../../src/pool.ts';
import { importLocations, type LocationInput } from '../../../src/tracking/index.ts';
import { withTransaction } from '../../../src/transaction.ts';
import { openPool } from '../../support/database.ts';
import { failure } from '../../support/failure.ts';
import { plainTracking } from '../../support/tracking.ts';
import { day, point, track } from '../../support/tracking-points.ts';

describe('importLocations', () => {
  let db: Pool;
  beforeAll(async () => {
    ({ db } = await plainTracking());
  });

  const stored = async ({ deviceId }: LocationInput) =>
    (
      await db.query<{ n: number }>(
        "SELECT (metadata->>'n')::int AS n FROM location_events WHERE device_id = $1 ORDER BY n",
        [deviceId],
      )
    ).rows.map(({ n }) => n);
  const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

  test('takes an array, and an async iterable', async () => {
    for (const asSource of [
      (events: LocationInput[]) => events,
      (events: LocationInput[]) => Readable.from(events),
    ]) {
      const events = track(12_345);
      const [first, last] = [events[0], events.at(-1)] as [LocationInput, LocationInput];
      const result = await importLocations(db, asSource(events));
      expect(result).toMatchObject({
        loaded: 12_345,
        rejected: 0,
        from: first.time,
        to: last.time,
        compressed: 0,
      });
      expect(await stored(first)).toEqual(numbers(12_345));
    }
  });

  test("is not ended by the database's timeouts, which are for applications", async () => {
    const { db: impatient, url } = await plainTracking();
    await impatient.query(`DO $$ DECLARE name text; BEGIN
      FOR name IN SELECT s.name FROM pg_settings s WHERE s.name IN ('statement_timeout', 'transaction_timeout',
        'idle_in_transaction_session_timeout') LOOP
        EXECUTE format('ALTER DATABASE %I SET %I = ''150ms''', current_database(), name);
      END LOOP; END $$`);
    const slow = async function* () {
      yield* track(2);
      await sleep(200);
      yield* track(2);
    };
    expect(await importLocations(openPool('tracking', url), slow())).toMatchObject({ loaded: 4 });
  });

  test('takes NDJSON, and names what does not fit by line', async () => {
    const events = track(5);
    const toRow = ({ deviceId, userId, appSource, ...rest }: LocationInput) =>
      JSON.stringify({ device_id: deviceId, user_id: userId, app_source: appSource, ...rest });
    const lines = events.map(toRow).toSpliced(2, 0, '{"latitude": 91}', 'no JSON');
    const rejects: unknown[] = [];
    const result = await importLocations(
      db,
      { format: 'ndjson', stream: Readable.from([lines.join('\n')]) },
      { onReject: (reject) => rejects.push(reject) },
    );
    expect(result).toMatchObject({ loaded: 5, rejected: 2 });
    expect(rejects).toEqual([
      { position: 3, reason: 'time is missing', text: '{"latitude": 91}' },
      { position: 4, reason: 'is not valid JSON', text: 'no JSON' },
    ]);
    expect(await stored(events[0] as LocationInput)).toEqual(numbers(5));
  });

  test('waits for who keeps the rejects, and reads on no further', async () => {
    let kept = 0;
    let waiting = 0;
    const onReject = async () => {
      waiting += 1;
      expect(waiting).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      waiting -= 1;
      kept += 1;
    };
    const stream = Readable.from([Array.from({ length: 100 }, () => 'no JSON').join('\n')]);
    expect(await importLocations(db, { format: 'ndjson', stream }, { onReject })).toMatchObject({
      rejected: 100,
    });
    expect(kept).toBe(100);
    const full = () => Promise.reject(new Error('no space'));
    const again = { format: 'ndjson' as const, stream: Readable.from(['no JSON']) };
    expect(String(await failure(importLocations(db, again, { onReject: full })))).toContain('no space');
  });

  test('keeps every digit that a column can hold, whatever the number', async () => {
    const places = [
      ['latitude', 8, 90],
      ['longitude', 8, 180],
      ['accuracy', 2, 9_999],
      ['altitude', 2, 999_999],
      ['speed', 2, 9_999],
      ['heading', 2, 359],
    ] as const;
    const pick = (most: number) => Math.floor(Math.random() * (most + 1));
    // Decimal text that was never a double: digits of its own after the point.
    const decimal = ([name, digits, most]: (typeof places)[number]) => {
      const whole = pick(most - 1);
      const fraction = String(pick(10 ** digits - 1)).padStart(digits, '0');
      const isNegative = ['latitude', 'longitude', 'altitude'].includes(name) && Math.random() < 0.5;
      return `${isNegative && whole + Number(fraction) > 0 ? '-' : ''}${whole}.${fraction}`;
    };
    const { deviceId, userId } = point();
    const start = Date.now() - day;
    const rows = Array.from({ length: 20_000 }, (_, index) => [
      new Date(start + index).toISOString(),
      ...places.map(decimal),
    ]);
    const header = ['time', ...places.map(([name]) => name)].join();
    const text = [header, ...rows.map((row) => row.join())].join('\n');
    const defaults = { deviceId, userId, appSource: 'mextrack' };
    expect(
      await importLocations(db, { format: 'csv', stream: Readable.from([text]), defaults }),
    ).toMatchObject({
      loaded: rows.length,
      rejected: 0,
    });
    const columns = places.map(([name]) => `${name}::text`).join();
    const { rows: found } = await db.query<Record<string, string>>(
      `SELECT to_char(time, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS time, ${columns} FROM location_events
       WHERE device_id = $1 ORDER BY time`,
      [deviceId],
    );
    expect(found.map((row) => Object.values(row))).toEqual(rows);
  });

  test('takes points of any age and says how many will be dropped; the future is not an age', async () => {
    const times = [0, 29, 31, 400, -1].map((days) => new Date(Date.now() - days * day));
    const rejects: string[] = [];
    const result = await importLocations(
      db,
      times.map((time) => point({ time })),
      {
        onReject: ({ position, reason }) => rejects.push(`${position}: ${reason}`),
      },
    );
    expect(result).toMatchObject({ loaded: 4, rejected: 1, olderThanRetention: 2 });
    expect(rejects).toEqual([expect.stringMatching(/^4: time lies in the future/)]);
  });

  test('loads nothing when the source, the server or the last word fails', async () => {
    const events = track(20_000);
    async function* failing() {
      yield* events;
      throw new Error('the disk is gone');
    }
    expect(String(await failure(importLocations(db, failing())))).toContain('the disk is gone');
    const lastWord = () => Promise.reject(new Error('no room for the rejects'));
    expect(String(await failure(importLocations(db, events, { beforeCommit: lastWord })))).toContain(
      'no room',
    );
    await db.query('ALTER TABLE location_events ADD CONSTRAINT no_island CHECK (latitude <> 13) NOT VALID');
    const island = [...events, point({ latitude: 13 })];
    expect(await failure(importLocations(db, island))).toMatchObject({ code: '23514' });
    expect(await stored(events[0] as LocationInput)).toEqual([]);
  });

  test('is part of a transaction that it is given', async () => {
    const events = track(3_000);
    const rolledBack = withTransaction(db, async (transaction) => {
      const { loaded } = await importLocations(transaction, events);
      throw new Error(`${loaded} seen`);
    });
    expect(String(await failure(rolledBack))).toContain('3000 seen');
    expect(await stored(events[0] as LocationInput)).toEqual([]);
  });

  test('goes through a view, which takes no COPY', async () => {
    await db.query(
      `CREATE SCHEMA own; CREATE VIEW own.location_events WITH (security_barrier) AS
       SELECT * FROM public.location_events WHERE app_source = 'mextrack' WITH CASCADED CHECK OPTION`,
    );
    const events = track(12_000);
    await withTransaction(db, async (transaction) => {
      await transaction.query('SET LOCAL search_path = own, public');
      expect(await importLocations(transaction, events)).toMatchObject({ loaded: 12_000 });
      const foreign = failure(
        withTransaction(transaction, (inner) => importLocations(inner, [point({ appSource: 'pshop' })])),
      );
      expect(await foreign).toMatchObject({ code: '44000' });
    });
    expect(await stored(events[0] as LocationInput)).toEqual(numbers(12_000));
  });
});
