// Reads on replicas: what goes there, what does not, and that nobody reads what they have overwritten.
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { users } from '../../schema/core.ts';
import { createUser, issueToken, verifyToken } from '../../src/auth/index.ts';
import type { SchemaOf } from '../../src/databases.ts';
import { ConfigurationError, createDatabasePool, type Pool, withTransaction } from '../../src/index.ts';
import { migrate } from '../../src/migrations/index.ts';
import { failure } from '../support/failure.ts';
import { type ReplicatedServers, startReplicatedServers } from '../support/own-server.ts';

describe('a pool with replicas', () => {
  let servers: ReplicatedServers;
  let standby: Pool;
  const open: Pool[] = [];
  const openPool = (options: { replicas?: string[]; replicaMaxLagMs?: number } = {}) => {
    const pool = createDatabasePool({
      key: 'core',
      connectionString: servers.primary.url,
      replicas: [servers.standby.url],
      ...options,
    });
    open.push(pool);
    return pool;
  };

  beforeAll(async () => {
    servers = await startReplicatedServers();
    standby = createDatabasePool({ connectionString: servers.standby.url, max: 1 });
    await using db = createDatabasePool({ connectionString: servers.primary.url });
    await migrate(db, 'core');
    await db.query('CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)');
    await db.query(
      `CREATE FUNCTION port() RETURNS int STABLE LANGUAGE sql AS $$ SELECT current_setting('port')::int $$;
       CREATE FUNCTION counted() RETURNS int LANGUAGE sql AS $$ UPDATE counter SET n = n + 1 RETURNING n $$`,
    );
  });
  afterEach(async () => {
    for (const pool of open.splice(0)) await pool.close();
  });
  afterAll(async () => {
    await standby.close();
    await servers.stop();
  });

  type Core = Pool<SchemaOf<'core'>>;
  const portOf = async (db: Pick<Core, 'query'>) =>
    (await db.query<{ port: number }>('SELECT port()')).rows[0]?.port;
  /** Reads until one is answered by the replica: the first ones go to the primary. */
  const onReplica = async (db: Core) => {
    while ((await portOf(db)) !== servers.standby.port) await sleep(5);
  };

  test('sends reads there: query, the tag, Drizzle, its relational queries', async () => {
    const db = openPool();
    await onReplica(db);
    const port = { port: servers.standby.port };
    expect((await db.query('SELECT port(), $1::jsonb AS value', [{ a: [1] }])).rows).toEqual([
      { ...port, value: { a: [1] } },
    ]);
    expect(await db.sql`SELECT port(), ${[1, 2]}::int[] AS list`).toMatchObject([{ ...port, list: [1, 2] }]);
    expect(await db.orm.select({ port: sql`port()` }).from(sql`counter`)).toEqual([port]);
    expect(await db.orm.query.users.findMany({ extras: { port: sql<number>`port()`.as('port') } })).toEqual(
      [],
    );
  });

  test('keeps on the primary: transactions, writes, locks, cursors, reserved connections, db.primary', async () => {
    const db = openPool();
    await onReplica(db);
    const { port } = servers.primary;
    expect(await portOf(db.primary)).toBe(port);
    expect(await withTransaction(db, portOf)).toBe(port);
    expect(await withTransaction(db, portOf, { readOnly: true })).toBe(port);
    expect(await withTransaction(db.primary, (transaction) => portOf(transaction.primary))).toBe(port);
    await onReplica(db);
    expect((await db.query('SELECT port() FROM counter FOR UPDATE')).rows).toEqual([{ port }]);
    await onReplica(db);
    for await (const rows of db.sql`SELECT port()`.cursor(1)) expect(rows).toMatchObject([{ port }]);
    await onReplica(db);
    const reserved = await db.sql.reserve();
    expect(await reserved`SELECT port()`).toMatchObject([{ port }]);
    reserved.release();
  });

  test('whoever has written reads it, over two hundred writes and through every way to write', async () => {
    const db = openPool();
    await onReplica(db);
    let fromReplica = 0;
    const read = async () => {
      const { rows } = await db.query<{ n: number; port: number }>('SELECT n, port() FROM counter');
      if (rows[0]?.port === servers.standby.port) fromReplica += 1;
      return rows[0]?.n;
    };
    for (let n = 1; n <= 200; n += 1) {
      const set = 'UPDATE counter SET n = $1';
      const ways = [
        () => db.query(set, [n]),
        () => db.sql`UPDATE counter SET n = ${n}`,
        () => db.orm.execute(sql`UPDATE counter SET n = ${n}`),
        () => withTransaction(db, (transaction) => transaction.query(set, [n])),
        () => db.primary.query(set, [n]),
        () => db.sql.begin((transaction) => transaction`UPDATE counter SET n = ${n}`),
      ];
      await ways[n % ways.length]?.();
      expect(await read()).toBe(n);
      if (n % 8 === 0) await onReplica(db);
      expect(await read()).toBe(n);
    }
    expect(fromReplica).toBeGreaterThan(10);
  });

  test('a function that writes, which no text shows, runs on the primary, once', async () => {
    const db = openPool();
    await db.query('UPDATE counter SET n = 0');
    await onReplica(db);
    expect((await db.query('SELECT counted()')).rows).toEqual([{ counted: 1 }]);
    await onReplica(db);
    expect((await db.query('SELECT n, $1::jsonb AS value FROM counter', ['"x"'])).rows).toEqual([
      { n: 1, value: 'x' },
    ]);
  });

  test('what such a function has written is read, wherever it ran, and a view that calls it is one', async () => {
    const db = openPool();
    await db.query('CREATE VIEW counting AS SELECT counted() AS counted; UPDATE counter SET n = 0');
    let n = 0;
    for (let round = 0; round < 20; round += 1) {
      for (const write of [
        () => db.query('SELECT counted()'),
        () => db.sql`SELECT counted FROM counting`,
        () => db.primary.query('SELECT counted()'),
        () => db.query('SELECT counted()'),
      ]) {
        n += 1;
        await write();
        expect((await db.query('SELECT n FROM counter')).rows).toEqual([{ n }]);
      }
      await onReplica(db);
    }
  });

  test('a mistake in a statement is reported as ever, a timeout not asked for twice', async () => {
    const db = openPool();
    await onReplica(db);
    expect(await failure(db.query('SELECT nonsense'))).toMatchObject({ code: '42703' });
    const url = `${servers.standby.url}?statement_timeout=100`;
    const impatient = openPool({ replicas: [url] });
    await db.query('CREATE FUNCTION nap() RETURNS text LANGUAGE sql AS $$ SELECT pg_sleep(1)::text $$');
    let timeout: unknown;
    // On a busy machine the replica may have fallen behind meanwhile, so that the primary naps.
    for (let attempt = 0; attempt < 5 && !timeout; attempt += 1) {
      timeout = await failure(onReplica(impatient).then(() => impatient.query('SELECT nap()')));
    }
    expect(timeout).toMatchObject({ code: '57014' });
  });

  test('a replica behind gets no reads, until it has caught up', async () => {
    const db = openPool({ replicaMaxLagMs: 400 });
    const other = openPool({ replicas: [] });
    await onReplica(db);
    await standby.query('SELECT pg_wal_replay_pause()');
    while (
      (await standby.query("SELECT 1 WHERE pg_get_wal_replay_pause_state() = 'paused'")).rowCount === 0
    ) {
      await sleep(5);
    }
    // Not through this pool, which knows nothing of it but the age of what the replica shows.
    await other.query('UPDATE counter SET n = -1');
    for (let age = 0; age < 10; age += 1) {
      await sleep(50);
      await db.query('SELECT 1');
    }
    expect((await db.query('SELECT n, port() FROM counter')).rows).toEqual([
      { n: -1, port: servers.primary.port },
    ]);
    await standby.query('SELECT pg_wal_replay_resume()');
    await onReplica(db);
  });

  test('authentication is never late: a revoked token is refused at once, whatever the replica says', async () => {
    const db = openPool();
    const revoker = openPool({ replicas: [] });
    const user = await createUser(db, { email: 'late@example.com', name: 'L', password: 'a long password' });
    const { token } = await issueToken(db, { userId: user.id, type: 'access' });
    await onReplica(db);
    expect(await verifyToken(db, token, 'access')).toMatchObject({ userId: user.id });
    await standby.query('SELECT pg_wal_replay_pause()');
    try {
      await revoker.query('UPDATE users SET is_active = false WHERE id = $1', [user.id]);
      expect(await db.orm.select({ active: users.isActive }).from(users)).toEqual([{ active: true }]);
      expect(await failure(verifyToken(db, token, 'access'))).toMatchObject({ reason: 'inactive user' });
    } finally {
      await standby.query('SELECT pg_wal_replay_resume()');
    }
  });

  test('a replica that dies under reads: none of them fails, and it is used again when it is back', async () => {
    await using admin = createDatabasePool({ connectionString: servers.primary.url });
    await admin.query("ALTER SYSTEM SET synchronous_standby_names = ''");
    await admin.query('SELECT pg_reload_conf()');
    const db = openPool();
    await onReplica(db);
    let answers = 0;
    let isOver = false;
    const reading = Array.from({ length: 8 }, async () => {
      while (!isOver) {
        const { rows } = await db.query('SELECT n, port(), $1::jsonb AS value FROM counter', ['{"a":1}']);
        expect(rows[0]?.value).toEqual({ a: 1 });
        answers += 1;
      }
    });
    while (answers < 200) await sleep(1);
    await servers.standby.crash();
    const atCrash = answers;
    while (answers < atCrash + 500) await sleep(1);
    expect(await portOf(db)).toBe(servers.primary.port);
    await servers.standby.start();
    await onReplica(db);
    isOver = true;
    await Promise.all(reading);
  });

  test('a replica that was promoted is none any more', async () => {
    const db = openPool({ replicas: [servers.primary.url] });
    for (let n = 0; n < 20; n += 1) {
      expect(await portOf(db)).toBe(servers.primary.port);
      await sleep(5);
    }
  });

  test('refuses a replica of another database', () => {
    const replicas = [servers.standby.url.replace(/postgres$/, 'other')];
    expect(() => openPool({ replicas })).toThrow(ConfigurationError);
    expect(() => openPool({ replicas })).toThrow(/replicas\[0\] .*should name postgres/);
    expect(() => openPool({ replicaMaxLagMs: 0 })).toThrow('replicaMaxLagMs is 0');
  });
});
