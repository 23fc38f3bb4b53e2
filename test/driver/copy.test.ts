// COPY FROM: whole or not at all, with the server's own error. COPY TO: the connection goes on after it.
import type { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { copyFrom } from '../../src/driver/copy.ts';
import { ConnectionError, type Pool, ValidationError, withTransaction } from '../../src/index.ts';
import { emptyDatabase, openPool } from '../support/database.ts';

describe('copyFrom', () => {
  let db: Pool;
  beforeAll(async () => {
    db = openPool('atriz', await emptyDatabase('atriz'), { max: 2 });
    await db.query('CREATE TABLE numbers (n int CHECK (n <> 13), padding text)');
  });

  const statement = 'COPY numbers FROM STDIN';
  const count = async () => (await db.query('SELECT count(*)::int AS n FROM numbers')).rows[0]?.n;
  function* lines(from: number, to: number) {
    for (let n = from; n < to; n += 1) yield Buffer.from(`${n}\t${'x'.repeat(1000)}\n`);
  }

  test('stores every chunk, and the transaction goes on', async () => {
    const seen = await withTransaction(db, async (transaction) => {
      await copyFrom(transaction, statement, lines(1000, 6000));
      return (await transaction.query('SELECT count(*)::int AS n FROM numbers')).rows[0]?.n;
    });
    expect([seen, await count()]).toEqual([5000, 5000]);
  });

  test.each([
    ['in the last chunk', () => lines(13, 14)],
    ['long before the last chunk', () => lines(0, 20_000)],
  ])('a row that the server refuses %s is its error, and nothing is stored', async (_, chunks) => {
    const before = await count();
    const attempt = withTransaction(db, (transaction) => copyFrom(transaction, statement, chunks()));
    await expect(attempt).rejects.toMatchObject({ code: '23514' });
    expect(await count()).toBe(before);
  });

  test('a source that fails undoes what was sent', async () => {
    const before = await count();
    async function* failing() {
      yield* lines(0, 10);
      throw new Error('the disk is gone');
    }
    const attempt = withTransaction(db, (transaction) => copyFrom(transaction, statement, failing()));
    await expect(attempt).rejects.toThrow('the disk is gone');
    expect(await count()).toBe(before);
  });

  test('a connection that is cut is a ConnectionError, and the pool goes on', async () => {
    async function* cut() {
      yield* lines(0, 10);
      const others =
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()';
      await db.query(others);
      yield* lines(10, 5_000);
    }
    const attempt = withTransaction(db, (transaction) => copyFrom(transaction, statement, cut()));
    // The server's farewell may come before the end of the connection is noticed.
    await expect(attempt).rejects.toSatisfy(
      (error) => error instanceof ConnectionError || (error as { code: string }).code === '57P01',
    );
    // What is sent before the pool has noticed that its other sessions ended is reported, not repeated.
    await expect.poll(count).toBeGreaterThan(0);
  });

  test('twenty COPYs of a few rows do not wait for acknowledgements of TCP', async () => {
    const durations: number[] = [];
    for (let round = 0; round < 20; round += 1) {
      const begin = performance.now();
      await withTransaction(db, (transaction) => copyFrom(transaction, statement, lines(100, 102)));
      durations.push(performance.now() - begin);
    }
    // Nagle's algorithm would make each of them wait for 40 ms: then none is faster.
    expect(Math.min(...durations)).toBeLessThan(35);
  });
});

describe('a COPY FROM', () => {
  let db: Pool;
  beforeAll(async () => {
    db = openPool('atriz', await emptyDatabase('atriz'), { max: 1 });
    await db.query('CREATE TABLE numbers (n int)');
  });
  const statement = 'COPY numbers FROM STDIN';

  test.each([
    [
      'a pool',
      (lines: string[]) =>
        db.sql
          .unsafe(statement)
          .writable()
          .then((stream) => pipeline(lines, stream)),
    ],
    [
      'a transaction',
      (lines: string[]) =>
        withTransaction(db, async ({ sql }) => pipeline(lines, await sql.unsafe(statement).writable())),
    ],
  ])('through a pipeline, in %s: its last row may be the error', async (_, copy) => {
    await expect(copy(['1\n', 'x\n'])).rejects.toMatchObject({ code: '22P02' });
    expect((await db.query('SELECT * FROM numbers')).rows).toEqual([]);
    await copy(['1\n', '2\n']);
    expect((await db.query('DELETE FROM numbers RETURNING n')).rows).toEqual([{ n: 1 }, { n: 2 }]);
  });

  test('that a transaction does not await is still stored', async () => {
    await withTransaction(db, async ({ sql }) => {
      void sql
        .unsafe(statement)
        .writable()
        .then((stream) => stream.end('1\n'));
    });
    await withTransaction(db, async (transaction) => {
      await withTransaction(transaction, async ({ sql }) => {
        void sql
          .unsafe(statement)
          .writable()
          .then((stream) => finished(stream.end('2\n')));
      });
    });
    expect((await db.query('DELETE FROM numbers RETURNING n')).rows).toEqual([{ n: 1 }, { n: 2 }]);
  });

  test('beside other statements of a transaction: they follow one after the other', async () => {
    await withTransaction(db, async (transaction) => {
      const lines = (first: number) => [Buffer.from(`${first}\n`), Buffer.from(`${first + 1}\n`)];
      const [, seen] = await Promise.all([
        copyFrom(transaction, statement, lines(1)),
        transaction.query('SELECT n FROM numbers'),
        copyFrom(transaction, statement, lines(3)),
      ]);
      expect(seen.rows).toEqual([{ n: 1 }, { n: 2 }]);
    });
    expect((await db.query('DELETE FROM numbers')).rowCount).toBe(4);
  });

  test('whose stream nobody ends, or under which the caller throws: all is rolled back', async () => {
    const open = withTransaction(db, ({ sql }) => sql.unsafe(statement).writable());
    await expect(open).rejects.toThrow(/rolled back.*nobody read or ended the stream/);
    const broken = withTransaction(db, async ({ sql }) => {
      (await sql.unsafe(statement).writable()).write('1\n');
      throw new Error('the disk is gone');
    });
    await expect(broken).rejects.toThrow(/^the disk is gone$/);
    expect((await db.query('SELECT * FROM numbers')).rows).toEqual([]);
  });
});

describe('a COPY TO', () => {
  const rows = 300_000;
  const text = `COPY (SELECT generate_series(1, ${rows}), repeat('x', 50)) TO STDOUT`;
  let db: Pool;
  beforeAll(async () => {
    db = openPool('atriz', await emptyDatabase('atriz'), { max: 1 });
  });

  async function countLines(stream: Readable): Promise<number> {
    let count = 0;
    for await (const chunk of stream) for (const byte of chunk as Buffer) if (byte === 10) count += 1;
    return count;
  }

  test('on the only connection: queries wait for it', async () => {
    const stream = await db.sql.unsafe(text).readable();
    const behind = [1, 2, 3].map(async (n) => (await db.query('SELECT $1::int AS n', [n])).rows);
    expect(await countLines(stream)).toBe(rows);
    expect(await Promise.all(behind)).toEqual([[{ n: 1 }], [{ n: 2 }], [{ n: 3 }]]);
  });

  const few = 'COPY (SELECT generate_series(1, 10)) TO STDOUT';
  const failing = 'COPY (SELECT 1 / (n - 1) FROM generate_series(1, 2) AS n) TO STDOUT';
  const ending = 'COPY (SELECT pg_terminate_backend(pg_backend_pid())) TO STDOUT';
  test.each([
    ['a pool', async (text: string) => countLines(await db.sql.unsafe(text).readable())],
    [
      'a transaction',
      (text: string) => withTransaction(db, async ({ sql }) => countLines(await sql.unsafe(text).readable())),
    ],
  ])('that fails as it starts, in %s: the error does not end the process', async (_, copy) => {
    for (let round = 0; round < 10; round += 1) {
      await expect(copy(failing)).rejects.toMatchObject({ code: '22012' });
      await expect(copy(ending)).rejects.toMatchObject({ code: '57P01' });
    }
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('that fails at its end, after all of its rows', async () => {
    await db.query('CREATE TABLE parents (n int PRIMARY KEY)');
    await db.query('CREATE TABLE children (n int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)');
    const added = 'COPY (INSERT INTO children SELECT generate_series(1, 20000) RETURNING n) TO STDOUT';
    const counted = db.sql.unsafe(added).readable().then(countLines);
    await expect(counted).rejects.toMatchObject({ code: '23503' });
  });

  test('that a transaction does not read: it is rolled back, and the connection goes on', async () => {
    for (const unread of [text, few]) {
      const returned = withTransaction(db, ({ sql }) => sql.unsafe(unread).readable());
      await expect(returned).rejects.toThrow(/rolled back.*nobody read or ended the stream/);
    }
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('under which the caller throws: its error is the error, and the connection goes on', async () => {
    const broken = withTransaction(db, async ({ sql }) => {
      for await (const _ of await sql.unsafe(text).readable()) throw new Error('the disk is full');
    });
    await expect(broken).rejects.toThrow(/^the disk is full$/);
    const inner = withTransaction(db, async (transaction) => {
      const lost = withTransaction(transaction, async ({ sql }) => {
        await sql.unsafe(text).readable();
        throw new Error('the disk is full');
      });
      await expect(lost).rejects.toThrow(/^the disk is full$/);
      return (await transaction.query('SELECT 1 AS one')).rows;
    });
    expect(await inner).toEqual([{ one: 1 }]);
  });

  test('that is read in part in a transaction: the next statement waits for its end', async () => {
    const seen = await withTransaction(db, async (transaction) => {
      for await (const _ of await transaction.sql.unsafe(text).readable()) break;
      return (await transaction.query('SELECT 1 AS one')).rows;
    });
    expect(seen).toEqual([{ one: 1 }]);
  });

  test.each(['SELECT 1', 'SELECT $1::int'])(
    'that is being read: "%s" is refused, each time',
    async (other) => {
      const parameters = other.includes('$1') ? [1] : [];
      const reading = withTransaction(db, async (transaction) => {
        for await (const _ of await transaction.sql.unsafe(text).readable()) {
          for (const attempt of [1, 2]) {
            await expect(transaction.query(other, parameters), `${attempt}`).rejects.toMatchObject({
              code: 'COPY_IN_PROGRESS',
            });
          }
          break;
        }
      });
      await expect(reading).rejects.toMatchObject({ code: 'COPY_IN_PROGRESS' });
      expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    },
  );

  test('whose text begins with a comment is known too', async () => {
    const broken = withTransaction(db, async (transaction) => {
      await expect(transaction.query(`/* all of them */ ${text}`)).rejects.toThrow(ValidationError);
      throw new Error('mine');
    });
    await expect(broken).rejects.toThrow(/^mine$/);
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('on a reserved connection that is released: the next one gets it when the COPY is over', async () => {
    const reserved = await db.sql.reserve();
    for await (const _ of await reserved.unsafe(text).readable()) break;
    reserved.release();
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    const again = await db.sql.reserve();
    await again`CREATE TEMP TABLE numbers (n int)`;
    await again`COPY numbers FROM STDIN`.writable();
    again.release();
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('of a savepoint is read in the outer transaction', async () => {
    const count = await withTransaction(db, async (transaction) =>
      countLines(await withTransaction(transaction, ({ sql }) => sql.unsafe(text).readable())),
    );
    expect(count).toBe(rows);
  });

  test('whose rows were all received is read after the connection has closed, and holds up no other query', async () => {
    const pool = openPool('atriz', await emptyDatabase('atriz'), { max: 1 });
    const stream =
      await pool.sql`COPY (SELECT repeat('x', 100) FROM generate_series(1, 200)) TO STDOUT`.readable();
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await pool.close();
    expect(await countLines(stream)).toBe(200);
  });

  test('is not for query(), which leaves nothing of it behind', async () => {
    await expect(db.query(text)).rejects.toThrow(ValidationError);
    await expect(withTransaction(db, (transaction) => transaction.query(few))).rejects.toThrow(
      ValidationError,
    );
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('that is read in part: its connection goes on', async () => {
    for await (const _ of await db.sql.unsafe(text).readable()) break;
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('in a transaction: its other statements follow', async () => {
    const seen = await withTransaction(db, async (transaction) => {
      const count = await countLines(await transaction.sql.unsafe(text).readable());
      return [count, (await transaction.query('SELECT 1 AS one')).rows];
    });
    expect(seen).toEqual([rows, [{ one: 1 }]]);
  });
});
