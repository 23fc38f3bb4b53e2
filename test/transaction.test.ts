// Transactions: commit, rollback, savepoints, isolation, and repetition after a collision.
import { readFile } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { roles } from '../schema/core.ts';
import {
  AtrizDatabaseError,
  sqlState,
  type Transaction,
  ValidationError,
  withTransaction,
} from '../src/index.ts';
import { testPool } from './support/database.ts';
import { failure } from './support/failure.ts';

const db = await testPool('core');
const add = (name: string) => ({ text: 'INSERT INTO roles (name) VALUES ($1)', parameters: [name] });
const exists = async (name: string) =>
  (await db.query('SELECT 1 FROM roles WHERE name = $1', [name])).rowCount === 1;

test('commits what the work did, by query, by tag and by Drizzle on one connection', async () => {
  const pids = await withTransaction(db, async (transaction) => {
    const { text, parameters } = add('by query');
    await transaction.query(text, parameters);
    await transaction.sql`INSERT INTO roles (name) VALUES (${'by tag'})`;
    await transaction.orm.insert(roles).values({ name: 'by drizzle' });
    const one = await transaction.query('SELECT pg_backend_pid() AS pid');
    const two = await transaction.orm.execute('SELECT pg_backend_pid() AS pid');
    return [one.rows[0]?.pid, two[0]?.pid];
  });
  expect(pids[0]).toBe(pids[1]);
  expect(await Promise.all(['by query', 'by tag', 'by drizzle'].map(exists))).toEqual([true, true, true]);
});

test('rolls back when the work throws, and throws what it threw', async () => {
  const failure = new Error('mine');
  const work = withTransaction(db, async (transaction) => {
    await transaction.query(add('undone').text, ['undone']);
    throw failure;
  });
  await expect(work).rejects.toBe(failure);
  expect(await exists('undone')).toBe(false);
});

test('rolls back when a statement fails, although the work caught it', async () => {
  const work = withTransaction(db, async (transaction) => {
    await transaction.query(add('caught').text, ['caught']);
    await transaction.query('SELECT 1/0').catch(() => undefined);
  });
  await work.catch(() => undefined);
  expect(await exists('caught')).toBe(false);
});

test('rejects when a statement that nobody awaited fails behind the last one', async () => {
  const work = withTransaction(db, async (transaction) => {
    await transaction.query(add('before').text, ['before']);
    transaction.query('SELECT 1/0').catch(() => undefined);
    return 'done';
  });
  const rejection = (await failure(work)) as Error;
  expect(rejection).toBeInstanceOf(AtrizDatabaseError);
  expect(rejection.message).toMatch(/was rolled back.*did not await failed: division by zero/);
  expect(sqlState(rejection)).toBe('22012');
  expect(await exists('before')).toBe(false);
});

test('by tag, in a savepoint, and in a savepoint that nobody awaited either', async () => {
  const ways: ((transaction: Transaction) => unknown)[] = [
    ({ sql }) => void sql`SELECT 1/0`.catch(() => undefined),
    (outer) => withTransaction(outer, async ({ sql }) => void sql`SELECT 1/0`.catch(() => undefined)),
    (outer) => {
      withTransaction(outer, (inner) => inner.query('SELECT 1/0')).catch(() => undefined);
      outer.query('SELECT 1/0').catch(() => undefined);
    },
  ];
  for (const [index, way] of ways.entries()) {
    const name = `way ${index}`;
    const work = withTransaction(db, async (transaction) => {
      await transaction.query(add(name).text, [name]);
      await way(transaction as unknown as Transaction);
    });
    expect({ name, rejection: await failure(work) }).toEqual({
      name,
      rejection: expect.any(AtrizDatabaseError),
    });
    expect({ name, exists: await exists(name) }).toEqual({ name, exists: false });
  }
});

test('commits statements that nobody awaited and that do not fail', async () => {
  await withTransaction(db, async (transaction) => {
    for (let index = 0; index < 200; index += 1)
      void transaction.query(add(`unwatched ${index}`).text, [`unwatched ${index}`]);
  });
  const { rows } = await db.query("SELECT count(*)::int AS count FROM roles WHERE name LIKE 'unwatched %'");
  expect(rows).toEqual([{ count: 200 }]);
});

describe('a COPY whose end nobody awaited', () => {
  const copy = (act: (stream: Writable) => void) =>
    withTransaction(db, async (transaction) => {
      act(await transaction.sql`COPY roles (name) FROM STDIN`.writable());
      return 'done';
    });

  test('is committed when it succeeds', async () => {
    expect(await copy((stream) => stream.end('copied one\ncopied two\n'))).toBe('done');
    expect([await exists('copied one'), await exists('copied two')]).toEqual([true, true]);
  });

  test.each<[string, RegExp, (stream: Writable) => void]>([
    ['fails', /did not await failed: duplicate key/, (stream) => stream.end('copied three\ncopied three\n')],
    ['is cut off', /did not await failed: COPY from stdin failed/, (stream) => stream.destroy()],
  ])('rejects when it %s, and the pool goes on', async (_, reason, act) => {
    expect(await failure(copy(act))).toMatchObject({ message: expect.stringMatching(reason) });
    expect(await exists('copied three')).toBe(false);
  });
});

test("throws the work's own errors as they are, whatever their code", async () => {
  await expect(withTransaction(db, () => readFile('/nonexistent/file'))).rejects.toMatchObject({
    code: 'ENOENT',
    path: '/nonexistent/file',
  });
});

test('is a savepoint inside of another transaction', async () => {
  await withTransaction(db, async (outer) => {
    await outer.query(add('outer').text, ['outer']);
    await withTransaction(outer, async (inner) => {
      await inner.query(add('inner').text, ['inner']);
      throw new Error('undo');
    }).catch(() => undefined);
    await expect(withTransaction(outer, async () => 1, { readOnly: true })).rejects.toThrow(ValidationError);
  });
  expect(await Promise.all(['outer', 'inner'].map(exists))).toEqual([true, false]);
});

test('savepoints that run side by side take turns: one that fails undoes its own work only', async () => {
  const names = ['first of three', 'second of three', 'third of three'];
  const outcomes = await withTransaction(db, (outer) =>
    Promise.allSettled(
      names.map((name, index) =>
        withTransaction(outer, async (inner) => {
          await inner.query(add(name).text, [name]);
          await inner.query('SELECT pg_sleep(0.01)');
          if (index === 1) throw new Error('undo');
        }),
      ),
    ),
  );
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(await Promise.all(names.map(exists))).toEqual([true, false, true]);
});

test('takes isolation level and read-only', async () => {
  const settings = await withTransaction(
    db,
    async ({ sql }) =>
      sql`SELECT current_setting('transaction_isolation') AS isolation, current_setting('transaction_read_only') AS read_only`,
    { isolation: 'serializable', readOnly: true },
  );
  expect(settings).toMatchObject([{ isolation: 'serializable', read_only: 'on' }]);
  const write = withTransaction(db, async () => 1, { isolation: 'chaos' as 'serializable' });
  await expect(write).rejects.toThrow('isolation is "chaos"');
  await expect(
    withTransaction(db, (transaction) => transaction.query(add('x').text, ['x']), { readOnly: true }),
  ).rejects.toMatchObject({ code: '25006' });
});

function deferred() {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** Two serializable transactions that read what the other writes: PostgreSQL lets one of them pass. */
async function collide(retries: number) {
  let started = 0;
  const { promise: bothRead, resolve } = deferred();
  const run = (name: string) =>
    withTransaction(
      db,
      async (transaction) => {
        await transaction.query('SELECT count(*) FROM roles');
        started += 1;
        if (started >= 2) resolve();
        await bothRead;
        await transaction.query(add(name).text, [name]);
      },
      { isolation: 'serializable', retries },
    );
  return Promise.allSettled([run(`one ${retries}`), run(`two ${retries}`)]);
}

test('fails a collision without retries, and repeats the work with them', async () => {
  const states = (results: PromiseSettledResult<void>[]) => results.map(({ status }) => status).sort();
  expect(states(await collide(0))).toEqual(['fulfilled', 'rejected']);
  expect(states(await collide(5))).toEqual(['fulfilled', 'fulfilled']);
  expect(await Promise.all(['one 5', 'two 5'].map(exists))).toEqual([true, true]);
});

test('repeats after a deadlock', async () => {
  await db.query("INSERT INTO roles (name) VALUES ('left'), ('right')");
  let waiting = 0;
  const { promise: bothHold, resolve } = deferred();
  const touch = 'UPDATE roles SET description = $2 WHERE name = $1';
  const run = (first: string, second: string) =>
    withTransaction(
      db,
      async (transaction) => {
        await transaction.query(touch, [first, first]);
        waiting += 1;
        if (waiting >= 2) resolve();
        await bothHold;
        await transaction.query(touch, [second, first]);
      },
      { retries: 3 },
    );
  await Promise.all([run('left', 'right'), run('right', 'left')]);
  // One of the two did its work again; again where it was quicker than the one that waited for its row.
  expect(waiting).toBeGreaterThanOrEqual(3);
});
