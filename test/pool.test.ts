// Pools: parameters, types, names, time zones, and errors that say which database.
import { createServer } from 'node:net';
import { eq, sql } from 'drizzle-orm';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { userMetadata, users } from '../schema/core.ts';
import { ConfigurationError, ConnectionError, createDatabasePool, withTransaction } from '../src/index.ts';
import { migratedDatabase, openPool, serverUrl, testWith } from './support/database.ts';
import { failure } from './support/failure.ts';

const url = await migratedDatabase('core');
const db = openPool('core', url);

describe('query', () => {
  test('encodes parameters as node-postgres users expect', async () => {
    const { rows } = await db.query(
      `SELECT $1::jsonb AS object, $2::jsonb AS text, $3::timestamptz AS time, $4::int[]::text AS numbers, $5::bool[] AS flags,
         $6::timestamptz[] AS times, $7::text AS nothing, $8::bytea AS bytes, $9::text[] AS texts, $10::bigint AS big, $11::int[] AS nested`,
      [
        { a: [1, 'x'] },
        '"quoted"',
        new Date('2026-01-02T03:04:05.678Z'),
        [1, null, 3],
        [true, false],
        [new Date(0)],
        undefined,
        Buffer.from([0, 255]),
        ['a"b', 'c\\d', '', 'NULL', 'é,{}'],
        2n ** 60n,
        [
          [1, 2],
          [3, 4],
        ],
      ],
    );
    expect(rows).toEqual([
      {
        object: { a: [1, 'x'] },
        text: 'quoted',
        time: new Date('2026-01-02T03:04:05.678Z'),
        numbers: '{1,NULL,3}',
        flags: [true, false],
        times: [new Date(0)],
        nothing: null,
        bytes: Buffer.from([0, 255]),
        texts: ['a"b', 'c\\d', '', 'NULL', 'é,{}'],
        big: '1152921504606846976',
        nested: [
          [1, 2],
          [3, 4],
        ],
      },
    ]);
  });

  test('keeps microseconds of a timestamp given as text', async () => {
    const { rows } = await db.query('SELECT $1::timestamptz::text AS time', ['2026-01-02T03:04:05.123456Z']);
    expect(rows).toEqual([{ time: '2026-01-02 03:04:05.123456+00' }]);
  });

  test('counts touched rows, and returns the last result of several statements', async () => {
    expect((await db.query('SELECT 1 AS one; SELECT 2 AS two')).rows).toEqual([{ two: 2 }]);
    const touched = await db.query("UPDATE users SET name = 'x' WHERE email = 'nobody@example.com'");
    expect(touched).toEqual({ rows: [], rowCount: 0 });
  });
});

test('the tag, Drizzle and query agree on dates and JSON, whichever ran first', async () => {
  const email = 'types@example.com';
  const value = { nested: { list: [1, 'two', null] }, text: 'a "quoted" word' };
  const [user] = await db.orm.insert(users).values({ email, passwordHash: 'x', name: 'T' }).returning();
  await db.orm.insert(userMetadata).values({ userId: user?.id ?? '', key: 'k', value });
  await db.orm.insert(userMetadata).values({ userId: user?.id ?? '', key: 'text', value: 'plain' });

  const viaOrm = await db.orm.select().from(userMetadata).where(eq(userMetadata.key, 'k'));
  expect(viaOrm[0]?.value).toEqual(value);
  expect(viaOrm[0]?.createdAt).toBeInstanceOf(Date);
  const viaQuery = await db.query('SELECT value, created_at FROM user_metadata ORDER BY key');
  expect(viaQuery.rows).toMatchObject([{ value, created_at: viaOrm[0]?.createdAt }, { value: 'plain' }]);

  const since = new Date(Date.now() - 60_000);
  const viaTag = await db.sql`SELECT value FROM user_metadata WHERE created_at > ${since} AND key = ${'k'}`;
  expect(viaTag).toMatchObject([{ value }]);
  const raw = await db.orm.execute(sql`SELECT ${since}::timestamptz AS time`);
  expect(raw[0]).toEqual({ time: since });
});

test('Drizzle answers relational queries with the schema of the registry', async () => {
  const email = 'relations@example.com';
  const [user] = await db.orm.insert(users).values({ email, passwordHash: 'x', name: 'R' }).returning();
  await db.orm.insert(userMetadata).values({ userId: user?.id ?? '', key: 'k', value: 1 });
  const found = await db.orm.query.users.findFirst({
    where: eq(users.email, email),
    with: { metadata: true },
  });
  expect(found?.metadata.map(({ value }) => value)).toEqual([1]);
});

test("Drizzle's own transactions commit, nest and roll back", async () => {
  await db.orm.transaction(async (outer) => {
    await outer.insert(users).values({ email: 'outer@example.com', passwordHash: 'x', name: 'O' });
    await outer
      .transaction(async (inner) => {
        await inner.insert(users).values({ email: 'inner@example.com', passwordHash: 'x', name: 'I' });
        throw new Error('undo the inner one');
      })
      .catch(() => undefined);
  });
  const { rows } = await db.query(
    "SELECT email FROM users WHERE email IN ('outer@example.com', 'inner@example.com')",
  );
  expect(rows).toEqual([{ email: 'outer@example.com' }]);
});

describe('sessions', () => {
  test('use UTC, and so does the process', async () => {
    const { rows } = await db.query("SELECT current_setting('TimeZone') AS zone");
    expect(rows).toEqual([{ zone: 'UTC' }]);
    expect(new Date(0).getTimezoneOffset()).toBe(0);
    expect(process.env.TZ).toBe('UTC');
  });

  test('name themselves in pg_stat_activity, by default and by option', async () => {
    const read = async (pool: typeof db) =>
      (await pool.query("SELECT current_setting('application_name') AS name")).rows[0]?.name;
    expect(await read(db)).toBe(`atriz ${db.name}`);
    expect(await read(openPool('core', url, { applicationName: 'mextrack-api' }))).toBe('mextrack-api');
    expect(await read(openPool('core', `${url}?application_name=from-url`))).toBe('from-url');
  });

  testWith(
    ['sessions'],
    'notify, and refuse to listen: a lost connection would be deaf without a word',
    async () => {
      const listener = postgres(url, { max: 1, onnotice: () => undefined });
      const heard = new Promise((resolve) => {
        void listener.listen('news', resolve, () => void db.sql.notify('news', "it's here"));
      });
      expect(await heard).toBe("it's here");
      await listener.end();
      const tag = db.sql as unknown as { listen: () => unknown; subscribe: () => unknown };
      for (const call of [tag.listen, tag.subscribe]) {
        expect(await failure(Promise.resolve(call()))).toMatchObject({
          name: 'ConfigurationError',
          message: expect.stringContaining('A pool does not listen'),
        });
      }
    },
  );

  testWith(['sessions'], 'are at most ten by default, and at most max', async () => {
    const busy = async (pool: typeof db) => {
      const queries = Array.from({ length: 15 }, () =>
        pool.query('SELECT pg_backend_pid() AS pid, pg_sleep(0.05)'),
      );
      return new Set((await Promise.all(queries)).map(({ rows }) => rows[0]?.pid)).size;
    };
    expect(await busy(openPool('core', url))).toBe(10);
    expect(await busy(openPool('core', url, { max: 3 }))).toBe(3);
  });

  testWith(['sessions'], 'end with 57014 when a statement is cancelled, and go on', async () => {
    const napping = db.sql`SELECT pg_sleep(60)`;
    const active =
      "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query ~ 'pg_sleep'";
    void expect
      .poll(async () => (await db.query(active)).rowCount)
      .toBeGreaterThan(1)
      .then(() => napping.cancel());
    expect(await failure(napping)).toMatchObject({ code: '57014' });
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  testWith(['sessions'], 'cancel a statement that takes longer than statementTimeoutMs', async () => {
    const pool = openPool('core', url, { statementTimeoutMs: 50 });
    await expect(pool.query('SELECT pg_sleep(5)')).rejects.toMatchObject({ code: '57014' });
  });

  test.each(['?pgbouncer=true', ''])('prepare no statements behind a proxy (%j)', async (parameter) => {
    const pool = openPool('core', url + parameter, parameter ? {} : { pgbouncer: true });
    await pool.query('SELECT $1::int', [1]);
    await pool.sql`SELECT ${2}::int`;
    await withTransaction(pool, async (transaction) => {
      const prepared = await transaction.query('SELECT count(*)::int AS count FROM pg_prepared_statements');
      expect(prepared.rows).toEqual([{ count: 0 }]);
    });
  });
});

describe('errors', () => {
  const ways = {
    query: (pool: typeof db) => pool.query('SELECT 1'),
    tag: (pool: typeof db) => pool.sql`SELECT 1`,
    transaction: (pool: typeof db) => withTransaction(pool, (transaction) => transaction.query('SELECT 1')),
  };

  test.each(Object.entries(ways))(
    'name the database and not the password when nobody listens (%s)',
    async (_, run) => {
      const pool = openPool('core', 'postgresql://user:s3cret@127.0.0.1:1/atriz_core');
      const error = await run(pool).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(ConnectionError);
      expect(error).toMatchObject({ database: 'atriz_core', code: 'ECONNREFUSED' });
      expect(String(error)).toContain('atriz_core at 127.0.0.1:1');
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('s3cret');
    },
  );

  testWith(['sessions'], 'say that the database does not exist, and how to create it', async () => {
    const pool = openPool('core', serverUrl('core', 'atriz_test_missing'));
    await expect(pool.query('SELECT 1')).rejects.toThrow(
      /atriz_test_missing.*does not exist.*db:create.*3D000/,
    );
  });

  test('give up on a host that accepts and stays silent', async () => {
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const pool = openPool('core', `postgresql://u@127.0.0.1:${port}/atriz_core`, { connectTimeoutMs: 200 });
    await expect(pool.query('SELECT 1')).rejects.toMatchObject({ code: 'CONNECT_TIMEOUT' });
    await pool.close();
    silent.close();
  });

  test('leave a failing statement its own SQLSTATE, and the pool usable', async () => {
    await expect(db.query('SELECT nonsense')).rejects.toMatchObject({ code: '42703' });
    await expect(db.query('SELECT 1 AS one')).resolves.toMatchObject({ rows: [{ one: 1 }] });
  });

  test('refuse a pool without a URL at once', () => {
    expect(() => createDatabasePool({ connectionString: undefined })).toThrow(ConfigurationError);
    expect(() => createDatabasePool({ connectionString: '' })).toThrow(/no connectionString/);
  });
});
