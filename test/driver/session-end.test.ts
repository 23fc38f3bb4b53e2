// What the server says when it ends a session is the error of the queries that waited on that session, and of no others.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { DrizzleQueryError, sql } from 'drizzle-orm';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { copyFrom } from '../../src/driver/copy.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { ConnectionError, createDatabasePool, type Pool, withTransaction } from '../../src/index.ts';
import {
  describeWith,
  emptyDatabase,
  openSessionPool,
  serverUrl,
  uniqueRolePrefix,
} from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { startOwnServer } from '../support/own-server.ts';

const suicide = 'SELECT pg_terminate_backend(pg_backend_pid())';
const terminated = {
  name: 'ConnectionError',
  code: '57P01',
  message: expect.stringContaining('terminating connection due to administrator command'),
};

describeWith(['sessions'], 'the server says why it ends a session', () => {
  let db: Pool;
  let admin: Pool;
  beforeAll(async () => {
    const url = await emptyDatabase('atriz');
    db = openSessionPool('atriz', url, { max: 2 });
    admin = openSessionPool('atriz', url, { max: 1, applicationName: 'admin' });
    await admin.query('CREATE TABLE lines (n int)');
  });

  const end = async (text: string) => {
    const sessions =
      'FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1 AND pid <> pg_backend_pid()';
    while (
      (await admin.query(`SELECT pg_terminate_backend(pid) ${sessions}`, [`%${text}%`])).rowCount === 0
    ) {
      await sleep(2);
    }
  };

  test.each<[string, () => Promise<unknown>]>([
    ['query', () => db.query(suicide)],
    ['query with parameters', () => db.query(`${suicide} WHERE $1`, [true])],
    ['the tag', () => Promise.resolve(db.sql`SELECT pg_terminate_backend(pg_backend_pid())`)],
    ['Drizzle', () => db.orm.execute(sql.raw(suicide)).then()],
    [
      'a cursor',
      async () => {
        for await (const rows of db.sql.unsafe(suicide).cursor(1)) void rows;
      },
    ],
    [
      'a dedicated session',
      async () => {
        await using session = db.dedicated();
        await session.query('SELECT 1');
        await session.query(suicide);
      },
    ],
    [
      'a reserved connection',
      async () => {
        const reserved = await db.sql.reserve();
        try {
          await reserved.unsafe(suicide);
        } finally {
          reserved.release();
        }
      },
    ],
    ['a transaction', () => withTransaction(db, (transaction) => transaction.query(suicide))],
    [
      'a savepoint whose error is swallowed',
      () =>
        withTransaction(db, async (transaction) => {
          await withTransaction(transaction, (inner) => inner.query(suicide)).catch(() => undefined);
        }),
    ],
    [
      'a transaction of Drizzle',
      () => db.orm.transaction((transaction) => transaction.execute(sql.raw(suicide))),
    ],
    [
      'COPY FROM',
      () =>
        withTransaction(db, (transaction) =>
          copyFrom(
            transaction,
            'COPY lines FROM STDIN',
            (async function* () {
              yield Buffer.from('1\n');
              await end('COPY lines');
              for (let n = 0; n < 10_000; n += 1) yield Buffer.from('1\n'.repeat(1_000));
            })(),
          ),
        ),
    ],
    [
      'COPY TO',
      async () => {
        const stream =
          await db.sql`COPY (SELECT n, pg_sleep(0.001) FROM generate_series(1, 100000) AS n) TO STDOUT`.readable();
        const broken = once(stream, 'close');
        stream.resume();
        await Promise.all([broken, end('COPY (SELECT')]);
      },
    ],
  ])('to %s', async (what, work) => {
    const error = await failure(Promise.resolve().then(work));
    // Drizzle puts an error of its own around it; a stream of postgres.js ends with the server's own.
    const said = error instanceof DrizzleQueryError ? error.cause : error;
    expect(said).toMatchObject(what === 'COPY TO' ? { ...terminated, name: 'PostgresError' } : terminated);
    expect((await db.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('to a transaction that was idle for too long, once; to what it runs afterwards too', async () => {
    let late: unknown;
    const lost = withTransaction(db, async (transaction) => {
      await transaction.query("SET LOCAL idle_in_transaction_session_timeout = '20ms'");
      await sleep(100);
      late = await failure(transaction.query('INSERT INTO lines VALUES (1)'));
      throw late;
    });
    const idle = { code: '25P03', message: expect.stringContaining('idle-in-transaction timeout') };
    expect(await failure(lost)).toMatchObject({ name: 'ConnectionError', ...idle });
  });

  test('while nothing ran on it: nobody is told', async () => {
    await using session = db.dedicated();
    await session.query("SET idle_session_timeout = '20ms'");
    await sleep(100);
    expect((await session.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  test('as a query or a transaction was sent to it, which then runs on another', async () => {
    await using session = db.dedicated();
    const ask = () => session.query('SELECT 1 AS one');
    for (const work of [
      ask,
      () => withTransaction(session, (transaction) => transaction.query('SELECT 1 AS one')),
    ]) {
      await session.query("SET idle_session_timeout = '20ms'");
      // This process cannot hear of the end before it has sent something.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
      expect((await work()).rows).toEqual([{ one: 1 }]);
    }
  });

  test('at the login: why, in its own words', async () => {
    const prefix = uniqueRolePrefix();
    const refused = async (user: string, database: string) => {
      const url = new URL(withDatabase(serverUrl('core', 'postgres'), database));
      Object.assign(url, { username: user, password: user });
      await using pool = createDatabasePool({ connectionString: url.href, max: 2 });
      const errors = await Promise.all([1, 2, 3, 4].map(() => failure(pool.query('SELECT 1'))));
      for (const error of errors) expect(error).toBeInstanceOf(ConnectionError);
      return new Set(errors.map((error) => String(error)));
    };
    for (const [name, options] of [
      ['full', 'LOGIN CONNECTION LIMIT 0'],
      ['out', 'NOLOGIN'],
    ]) {
      await admin.query(`CREATE ROLE ${prefix}${name} PASSWORD '${prefix}${name}' ${options}`);
    }
    expect([...(await refused(`${prefix}full`, 'postgres'))]).toEqual([
      expect.stringMatching(/all connections are taken.*too many connections for role .* \(53300\)/),
    ]);
    expect([...(await refused(`${prefix}out`, 'postgres'))]).toEqual([
      expect.stringMatching(/refuses this user.*is not permitted to log in \(28000\)/),
    ]);
  });
});

test('on a server whose backend crashes, with a wrong password, after transaction_timeout: why, in its own words', async () => {
  const server = await startOwnServer();
  onTestFinished(() => server.stop());
  await using db = createDatabasePool({ connectionString: server.url, max: 2 });
  const url = new URL(server.url);
  url.password = 's3cret';
  await using stranger = createDatabasePool({ connectionString: url.href, max: 1 });
  const refused = await failure(stranger.query('SELECT 1'));
  expect(refused).toMatchObject({ name: 'ConnectionError', code: '28P01' });
  expect(String(refused)).toMatch(
    /the password is missing or wrong.*authentication failed for user "postgres"/,
  );
  expect(String(refused)).not.toContain('s3cret');

  const slow = withTransaction(db, async (transaction) => {
    await transaction.query("SET LOCAL transaction_timeout = '50ms'");
    await transaction.query('SELECT pg_sleep(30)');
  });
  expect(await failure(slow)).toMatchObject({
    name: 'ConnectionError',
    code: '25P04',
    message: expect.stringContaining('transaction timeout'),
  });

  const [victim] = (await db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows;
  await using other = createDatabasePool({ connectionString: server.url, max: 1 });
  const waiting = failure(other.query('SELECT pg_sleep(30)'));
  while ((await db.query("SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)'")).rowCount === 0) {
    await sleep(2);
  }
  process.kill(victim?.pid ?? 0, 'SIGKILL');
  expect(await waiting).toMatchObject({
    name: 'ConnectionError',
    code: '57P02',
    message: expect.stringMatching(/another one crashed.*because of crash of another server process/),
  });
  await expect.poll(() => failure(db.query('SELECT 1'))).toBeUndefined();
});
