// Rows that are converted when they arrive: in order, once each, also where the query ran again or stood in a transaction.
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { type Pool, withTransaction } from '../../src/index.ts';
import { describeWith, emptyDatabase, openSessionPool } from '../support/database.ts';

const text = 'SELECT n FROM generate_series(1, $1::int) AS n';
const double = ({ n }: { n: number }) => n * 2;
const expected = (count: number) => Array.from({ length: count }, (_, index) => (index + 1) * 2);

describeWith(['sessions'], 'converted rows', () => {
  let db: Pool;
  let admin: Pool;
  beforeAll(async () => {
    const url = await emptyDatabase('atriz');
    db = openSessionPool('atriz', url, { max: 1 });
    admin = openSessionPool('atriz', url, { max: 1 });
  });

  test('arrive in order, none, one or many, in a transaction as well', async () => {
    for (const count of [0, 1, 20_000]) {
      expect(await db.read(text, [count], double)).toEqual(expected(count));
      const inside = withTransaction(db, (transaction) => transaction.read(text, [count], double));
      expect(await inside).toEqual(expected(count));
    }
  });

  test('arrive once when the query runs again, because its session had ended or its statement was stale', async () => {
    // The server's reason (57P05) shows that the query has not run, also if it was sent before the pool noticed.
    const { rows } = await db.query<{ pid: number }>(
      "SELECT pg_backend_pid() AS pid, set_config('idle_session_timeout', '20', false)",
    );
    const open = () => admin.query('SELECT FROM pg_stat_activity WHERE pid = $1', [rows[0]?.pid]);
    while ((await open()).rowCount > 0) await sleep(1);
    expect(await db.read(text, [3], double)).toEqual(expected(3));

    await db.query('CREATE TABLE numbers AS SELECT 1 AS n');
    const all = 'SELECT * FROM numbers WHERE n < $1::int';
    expect(await db.read(all, [9], double)).toEqual([2]);
    await admin.query('ALTER TABLE numbers ADD COLUMN m int');
    expect(await db.read(all, [9], double)).toEqual([2]);
  });

  test('an error of the conversion or of the server rejects, and the pool goes on', async () => {
    const fail = () => {
      throw new Error('not a row of mine');
    };
    await expect(db.read(text, [3], fail)).rejects.toThrow('not a row of mine');
    await expect(
      db.read('SELECT 1 / (2 - n) AS n FROM generate_series(1, 3) AS n', [], double),
    ).rejects.toMatchObject({
      code: '22012',
    });
    expect(await db.read(text, [3], double)).toEqual(expected(3));
  });
});
