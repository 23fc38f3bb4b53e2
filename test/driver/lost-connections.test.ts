// Connections that end under every kind of work, and servers that say nothing: each query ends, the pool goes on and closes.
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { ConnectionError, createDatabasePool, type Pool, withTransaction } from '../../src/index.ts';
import { emptyDatabase, openSessionPool, serverUrl } from '../support/database.ts';
import { failure } from '../support/failure.ts';

/** Sends queries in every turn of the event loop while `end` ends their connections. Each must end, too. */
async function keepComing(ways: readonly (() => Promise<unknown>)[], end: () => Promise<unknown>) {
  let turnsLeft = Number.POSITIVE_INFINITY;
  const ending = end().finally(() => {
    turnsLeft = 20;
  });
  const outcomes: Promise<unknown>[] = [];
  let running = 0;
  for (; turnsLeft > 0; turnsLeft -= 1) {
    // More would only wait for the server.
    for (const way of running < 40 ? ways : []) {
      running += 1;
      outcomes.push(
        failure(way()).finally(() => {
          running -= 1;
        }),
      );
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ending;
  for (const error of await Promise.all(outcomes)) {
    if (error !== undefined) expect(error).toBeInstanceOf(ConnectionError);
  }
}

describe('a connection that is lost', () => {
  let url: string;
  let db: Pool;
  let admin: Pool;
  beforeAll(async () => {
    url = await emptyDatabase('atriz');
    db = openSessionPool('atriz', url, { max: 2 });
    admin = openSessionPool('atriz', url, { max: 1, applicationName: 'admin' });
    await admin.query('CREATE TABLE lines (n int)');
  });

  /** Ends every session of the pool as soon as one of them runs something like `text`. */
  const endAll = async (text: string) => {
    while ((await admin.query(`SELECT 1 ${sessions} AND query LIKE $1`, [`%${text}%`])).rowCount === 0) {
      await sleep(2);
    }
    await endSessions();
  };
  const sessions = 'FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()';
  const endSessions = () => admin.query(`SELECT pg_terminate_backend(pid) ${sessions}`);
  const reserve = async () => {
    const sql = await db.sql.reserve();
    return { sql, [Symbol.asyncDispose]: async () => sql.release() };
  };
  const works = async () => {
    // What is sent before the pool has noticed may have run: it is reported, not repeated.
    for (let noticed = false; !noticed; ) {
      noticed = (await Promise.all([1, 2].map(() => failure(db.query('SELECT 1'))))).every((error) => !error);
    }
    const answers = Array.from({ length: 10 }, (_, n) => db.query('SELECT $1::int AS n', [n]));
    expect((await Promise.all(answers)).map(({ rows }) => rows[0]?.n)).toEqual([...answers.keys()]);
  };

  test.each<[string, () => Promise<unknown>]>([
    [
      'a cursor',
      async () => {
        for await (const rows of db.sql`SELECT generate_series(1, 10) AS under, pg_sleep(0.5)`.cursor(1))
          void rows;
      },
    ],
    ['forEach', () => Promise.resolve(db.sql`SELECT pg_sleep(30), 1 AS under`.forEach(() => {}))],
    [
      'a reserved connection',
      async () => {
        const reserved = await db.sql.reserve();
        try {
          return await reserved`SELECT pg_sleep(30), 1 AS under`;
        } finally {
          reserved.release();
        }
      },
    ],
    ['Drizzle', () => db.orm.execute('SELECT pg_sleep(30), 1 AS under')],
  ])('under %s: it rejects, and the pool goes on', async (_, work) => {
    const [error] = await Promise.all([failure(Promise.resolve(work())), endAll('under')]);
    expect(error).toBeInstanceOf(Error);
    await works();
  });

  test('a cursor lost between two steps does not look as if its rows had ended', async () => {
    const read = async () => {
      for await (const rows of db.sql`SELECT generate_series(1, 3) AS between`.cursor(1)) {
        if (rows[0]?.between === 1) await endAll('between');
      }
    };
    expect(await failure(read())).toBeInstanceOf(ConnectionError);
    expect(
      await failure(
        withTransaction(db, async ({ sql }) => {
          for await (const rows of sql`SELECT generate_series(1, 3) AS between`.cursor(1)) {
            if (rows[0]?.between === 1) await endAll('between');
          }
        }),
      ),
    ).toBeInstanceOf(ConnectionError);
    await works();
  });

  test('a reserved connection lost while nothing ran on it runs nothing more, and may be released', async () => {
    const reserved = await db.sql.reserve();
    await reserved`SELECT 1 AS idle`;
    await endAll('AS idle');
    while ((await failure(Promise.resolve(reserved`SELECT 1`))) === undefined) await sleep(1);
    expect(String(await failure(Promise.resolve(reserved`SELECT 1`)))).toContain('is lost');
    reserved.release();
    reserved.release();
    await works();
  });

  // Between its error and its close postgres.js takes the connection for a good one.
  test('while queries keep coming, in every turn of the event loop: each of them ends', async () => {
    await using one = openSessionPool('atriz', url, { max: 1 });
    await using two = openSessionPool('atriz', url, { max: 1 });
    await using three = openSessionPool('atriz', url, { max: 1 });
    for (let round = 0; round < 20; round += 1) {
      await using reserved = await reserve();
      const ways: (() => Promise<unknown>)[] = [
        () => Promise.resolve(reserved.sql`SELECT 1`),
        () => one.query('SELECT 1'),
        () => withTransaction(two, (transaction) => transaction.query('SELECT 1')),
        () => withTransaction(three, (outer) => withTransaction(outer, async () => undefined)),
      ];
      expect(await Promise.all(ways.map((way) => failure(way())))).toEqual(ways.map(() => undefined));
      await keepComing(ways, endSessions);
    }
  });

  test('under a COPY outside of a transaction: its stream breaks, nothing of it is there', async () => {
    const stream = await db.sql`COPY lines FROM STDIN`.writable();
    const broken = once(stream, 'error').catch(() => undefined);
    stream.on('error', () => undefined);
    stream.write('1\n');
    await endAll('COPY lines');
    await broken;
    await works();
    expect((await db.query('SELECT 1 FROM lines')).rowCount).toBe(0);
  });

  test('under twenty queries at once, again and again: each ends, none twice, what is acknowledged is there', async () => {
    const acknowledged: number[] = [];
    const failed: unknown[] = [];
    let n = 0;
    for (let round = 0; round < 5; round += 1) {
      const inserts = Array.from({ length: 20 }, () => {
        n += 1;
        const own = n;
        return db.query('INSERT INTO lines SELECT $1::int FROM pg_sleep(0.02)', [own]).then(
          () => acknowledged.push(own),
          (error: unknown) => failed.push(error),
        );
      });
      await Promise.all([...inserts, endAll('INSERT INTO lines')]);
    }
    expect(acknowledged.length + failed.length).toBe(100);
    for (const error of failed) expect(error).toBeInstanceOf(ConnectionError);
    const { rows } = await db.query<{ n: number }>('SELECT n FROM lines ORDER BY n');
    const stored = rows.map((row) => row.n);
    expect(new Set(stored).size).toBe(stored.length);
    expect(acknowledged.filter((own) => !stored.includes(own))).toEqual([]);
  });
});

describe('a server that', () => {
  /** A server of TCP alone. @returns a URL of it. */
  const listen = async (onConnection: (socket: Socket) => void, parameters = '') => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket.on('error', () => undefined));
      onConnection(socket);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as { port: number };
    return { url: `postgresql://u@127.0.0.1:${port}/atriz_db${parameters}`, sockets };
  };

  /** A server of TCP that passes on what client and server say, while `passes`. */
  const passOn = async (passes: () => boolean) => {
    const { hosts, user, password } = parseDatabaseUrl(serverUrl('core', 'postgres'), 'server');
    const { url, sockets } = await listen((socket) => {
      const server = connect(hosts[0]?.port ?? 0, hosts[0]?.host);
      server.on('data', (bytes) => passes() && socket.write(bytes)).on('error', () => undefined);
      socket.on('data', (bytes) => passes() && server.write(bytes)).on('close', () => server.destroy());
    });
    const login = `${user ?? 'postgres'}${password ? `:${password}` : ''}`;
    return { connectionString: url.replace('u@', `${login}@`).replace('atriz_db', 'postgres'), sockets };
  };

  test.each(['', '?sslmode=require'])(
    'hangs up at once fails each query, once a connection (%j)',
    async (mode) => {
      const { url, sockets } = await listen((socket) => socket.end(), mode);
      await using db = createDatabasePool({ connectionString: url, max: 1 });
      for (const connections of [1, 2]) {
        expect(await failure(db.query('SELECT 1'))).toBeInstanceOf(ConnectionError);
        expect(sockets).toHaveLength(connections);
      }
    },
  );

  const accepted = Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0]);
  const processKey = Buffer.from([0x4b, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 2]);
  test.each<[string, (socket: Socket) => void]>([
    ['hangs up', (socket) => socket.end()],
    ['resets the connection', (socket) => socket.resetAndDestroy()],
    ['accepts the login and hangs up', (socket) => socket.end(accepted)],
    ['names its process and hangs up', (socket) => socket.end(Buffer.concat([accepted, processKey]))],
    ['stays silent', () => undefined],
  ])('%s when it has got the login fails every query in time, with few connections', async (_, answer) => {
    const { url, sockets } = await listen((socket) => socket.once('data', () => answer(socket)));
    const db = createDatabasePool({ connectionString: url, max: 2, connectTimeoutMs: 500 });
    const begun = performance.now();
    const works = [
      ...Array.from({ length: 20 }, () => db.query('SELECT 1')),
      withTransaction(db, async (transaction) => transaction.query('SELECT 1')),
      Promise.resolve(db.sql.reserve()),
    ];
    for (const error of await Promise.all(works.map(failure))) expect(error).toBeInstanceOf(ConnectionError);
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(sockets.length).toBeLessThan(8);

    const waiting = failure(db.query('SELECT 1'));
    await db.close();
    const before = sockets.length;
    expect(await waiting).toBeInstanceOf(ConnectionError);
    expect(await failure(db.query('SELECT 1'))).toMatchObject({ code: 'CONNECTION_ENDED' });
    await sleep(100);
    expect(sockets).toHaveLength(before);
  });

  test('is behind a network that resets idle connections: a query that comes meanwhile ends, whenever it comes', async () => {
    const { connectionString, sockets } = await passOn(() => true);
    await using one = createDatabasePool({ connectionString, max: 1 });
    await using two = createDatabasePool({ connectionString, max: 1 });
    const ways = [() => one.query('SELECT 1'), () => withTransaction(two, async () => undefined)];
    for (let turns = 0; turns < 60; turns += 1) {
      for (const way of ways) while (await failure(way())) await sleep(1);
      for (const socket of sockets.splice(0)) socket.resetAndDestroy();
      for (let turn = 0; turn < turns % 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      for (const error of await Promise.all(ways.map((way) => failure(way())))) {
        if (error !== undefined) expect(error).toBeInstanceOf(ConnectionError);
      }
    }
  });

  test('falls silent under a query does not keep the pool from closing, nor its socket open', async () => {
    let isSilent = false;
    const { connectionString, sockets } = await passOn(() => !isSilent);
    const db = createDatabasePool({ connectionString, max: 1 });
    await db.query('SELECT 1');
    isSilent = true;
    const lost = failure(db.query('SELECT 1'));
    const [open] = sockets.filter(({ destroyed }) => !destroyed);
    if (!open) throw new Error('no connection is open');
    await once(open, 'data');
    const closed = [open].map((socket) => once(socket, 'close'));
    await db.close();
    expect(await lost).toMatchObject({ code: 'CONNECTION_DESTROYED' });
    await Promise.all(closed);
  });
});

test('a connection that nobody gives back does not keep the pool from closing', async () => {
  const db = createDatabasePool({ connectionString: serverUrl('core', 'postgres'), max: 3 });
  const reserved = await db.sql.reserve();
  const stuck = failure(withTransaction(db, () => new Promise(() => undefined)));
  await db.query('SELECT 1');
  await db.close();
  expect(await stuck).toBeInstanceOf(Error);
  expect(await failure(Promise.resolve(reserved`SELECT 1`))).toBeInstanceOf(Error);
});
