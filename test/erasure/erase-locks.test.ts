// What others do to a person's rows while they are being erased: children that come late, locks that do not go.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { eraseRows } from '../../src/erasure/erase.ts';
import { AtrizDatabaseError, type Pool, withTransaction } from '../../src/index.ts';
import { eraseUser } from '../../src/references/index.ts';
import { addPeople, openPools, userIdOf } from '../references/people.ts';
import { describeWith, migratedDatabase, openPool } from '../support/database.ts';

const lateDelivery =
  "INSERT INTO deliveries (order_id, address) SELECT id, 'late street' FROM orders WHERE user_id = $1";

describeWith(['concurrent-sessions'], 'erasing the rows of an application', () => {
  let db: Pool;
  beforeAll(async () => {
    db = openPool('pshop', await migratedDatabase('pshop'));
    await addPeople({ pshop: db }, 3);
  });
  const erase = (person: number, onRows = () => {}, lockTimeoutMs = 30_000) =>
    eraseRows(db, 'pshop', userIdOf(person), { onRows, lockTimeoutMs });
  const blocked = (text: string) =>
    expect
      .poll(async () => {
        const { rowCount } = await db.query(
          `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ $1`,
          [text],
        );
        return rowCount;
      })
      .toBeGreaterThan(0);
  const lateStreets = async () =>
    (await db.query("SELECT 1 FROM deliveries WHERE address = 'late street'")).rowCount;

  test('waits for a child that is being added, and erases it with the others', async () => {
    let erasure: Promise<void> = Promise.resolve();
    await withTransaction(db, async (adding) => {
      await adding.query(lateDelivery, [userIdOf(1)]);
      erasure = erase(1);
      await blocked('FOR UPDATE');
    });
    await erasure;
    expect(await lateStreets()).toBe(0);
  });

  test('a child added between two rules waits, and the next pass finds it under an order that is nobody’s', async () => {
    let adding: Promise<unknown> | undefined;
    await erase(2, () => {
      adding ??= db.query(lateDelivery, [userIdOf(2)]);
    });
    await adding;
    // Whoever read the order's id before the erasure may still use it.
    await db.query("INSERT INTO deliveries (order_id, address) VALUES ($1, 'late street')", [
      '1a000000-0000-4000-8000-000000000002',
    ]);
    await erase(2);
    expect(await lateStreets()).toBe(0);
    const seen: number[] = [];
    await eraseRows(db, 'pshop', userIdOf(2), { onRows: (_, rows) => seen.push(rows), lockTimeoutMs: 1_000 });
    expect(seen.every((rows) => rows === 0)).toBe(true);
  });

  test('gives up, and says what to look for, when somebody holds the rows for too long', async () => {
    await withTransaction(db, async (holding) => {
      await holding.query('SELECT FROM orders WHERE user_id = $1 FOR UPDATE', [userIdOf(3)]);
      const refused = erase(3, undefined, 50);
      await expect(refused).rejects.toThrow(
        /held rows or a table of .+ for more than 50 ms.+run the erasure again/,
      );
      await expect(refused).rejects.toThrow(AtrizDatabaseError);
    });
    await erase(3);
    expect((await db.query('SELECT 1 FROM orders WHERE user_id = $1', [userIdOf(3)])).rowCount).toBe(0);
  });
});

describeWith(
  ['timescaledb', 'concurrent-sessions'],
  'erasing a person while the aggregate is refreshed',
  () => {
    test('waits for what the refresh has written, and erases that too', async () => {
      const { pools } = await openPools();
      await addPeople(pools, 1);
      const { tracking } = pools;
      const { rows } = await tracking.query<{ name: string }>(
        `SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) AS name
       FROM timescaledb_information.continuous_aggregates`,
      );
      let erasure: Promise<unknown> = Promise.resolve();
      await withTransaction(tracking, async (refreshing) => {
        await refreshing.query(
          `INSERT INTO ${rows[0]?.name} (hour, device_id, user_id, app_source) VALUES ('2026-01-01T00:00Z', $1, $2, 'pshop')`,
          [randomUUID(), userIdOf(1)],
        );
        erasure = eraseUser(pools, userIdOf(1), { graceMs: 0 });
        const blocked =
          'SELECT 1 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())';
        await expect.poll(async () => (await tracking.query(blocked)).rowCount).toBe(1);
      });
      await erasure;
      expect(
        (await tracking.query(`SELECT 1 FROM ${rows[0]?.name} WHERE user_id = $1`, [userIdOf(1)])).rowCount,
      ).toBe(0);
    });
  },
);
