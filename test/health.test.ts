// checkHealth: what health endpoints ask; it never throws, and never waits longer than it was told.
import { createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkHealth, createDatabasePool, type Pool } from '../src/index.ts';
import { emptyDatabase, migratedDatabase, openPool, serverUrl, uniqueName } from './support/database.ts';

const url = await migratedDatabase('atriz');
const db = openPool('atriz', url);
const healthy = {
  isReachable: true,
  isMigrated: true,
  latencyMs: expect.any(Number),
  pool: { inUse: 0, max: 10, waiting: 0 },
  error: null,
};
/** As long as a busy machine needs: for answers that must come. */
const timeoutMs = 60_000;
/** The one database of an answer. */
const only = async (pool: Pool, timeoutMs: number) =>
  Object.values((await checkHealth(pool, { timeoutMs })).databases)[0];

test('one pool, or several under the names that they were given', async () => {
  expect(await checkHealth(db, { timeoutMs })).toEqual({ isHealthy: true, databases: { atriz: healthy } });
  const core = openPool('core', await migratedDatabase('core'), { max: 3 });
  expect(await checkHealth({ users: core, app: db }, { timeoutMs })).toEqual({
    isHealthy: true,
    databases: { users: { ...healthy, pool: { ...healthy.pool, max: 3 } }, app: healthy },
  });
});

test('a database that is not migrated is not healthy, and one without a key is only asked whether it answers', async () => {
  const empty = openPool('pshop', await emptyDatabase('pshop'));
  expect(await checkHealth({ empty, db }, { timeoutMs })).toMatchObject({
    isHealthy: false,
    databases: { empty: { isReachable: true, isMigrated: false }, db: healthy },
  });
  await using other = createDatabasePool({ connectionString: url });
  expect(await checkHealth(other, { timeoutMs })).toMatchObject({
    isHealthy: true,
    databases: { [other.name]: { isReachable: true, isMigrated: null } },
  });
});

test('a role that may not read the migrations hears that the database answers', async () => {
  const role = uniqueName('atriz').replace('atriz_test', 'health');
  await db.query(`CREATE ROLE "${role}" LOGIN PASSWORD 'x'`);
  try {
    const asRole = new URL(url);
    [asRole.username, asRole.password] = [role, 'x'];
    await using pool = createDatabasePool({ key: 'atriz', connectionString: asRole.href });
    expect(await checkHealth(pool, { timeoutMs })).toMatchObject({
      isHealthy: true,
      databases: { atriz: { isReachable: true, isMigrated: null } },
    });
  } finally {
    await db.query(`DROP ROLE "${role}"`);
  }
});

test('a server or a database that is not there is said without its password', async () => {
  await using nowhere = createDatabasePool({
    connectionString: 'postgresql://a:secret@127.0.0.1:1/atriz_db',
  });
  await using missing = createDatabasePool({ connectionString: serverUrl('atriz', uniqueName('atriz')) });
  const health = await checkHealth({ nowhere, missing }, { timeoutMs });
  expect(health).toMatchObject({
    isHealthy: false,
    databases: {
      nowhere: {
        isReachable: false,
        isMigrated: null,
        latencyMs: null,
        error: expect.stringContaining('no server answers'),
      },
      missing: { isReachable: false, error: expect.stringContaining('does not exist') },
    },
  });
  expect(JSON.stringify(health)).not.toContain('secret');
});

test.each([Number.POSITIVE_INFINITY, 2 ** 31])('a timeout of %d is as good as none', async (timeout) => {
  expect(await only(db, timeout)).toMatchObject({ isReachable: true, error: null });
});

test('a timeout that is not a time is refused', async () => {
  await expect(checkHealth(db, { timeoutMs: Number.NaN })).rejects.toThrow('timeoutMs is NaN');
  await expect(checkHealth(db, { timeoutMs: -1 })).rejects.toThrow('timeoutMs is -1');
});

test('a closed pool is not healthy', async () => {
  const closed = createDatabasePool({ key: 'atriz', connectionString: url });
  await closed.close();
  expect(await only(closed, timeoutMs)).toMatchObject({
    isReachable: false,
    error: expect.any(String),
  });
});

test('a pool whose connections are all taken: the timeout holds, the use is told, and nothing piles up', async () => {
  await using small = createDatabasePool({ key: 'atriz', connectionString: url, max: 2 });
  const pool = small;
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const transactions = [1, 2, 3].map(() => pool.sql.begin(async () => await held));
  const use = { inUse: 2, max: 2, waiting: 1 };
  expect(await only(pool, 50)).toMatchObject({
    isReachable: false,
    pool: use,
    error: expect.stringContaining('all 2 connections of the pool are in use and 1 more wait'),
  });
  // The first question still waits; the others wait for the same answer.
  await Promise.all([only(pool, 10), only(pool, 10), only(pool, 10)]);
  expect(pool.stats).toEqual({ ...use, waiting: 2 });
  release();
  await Promise.all(transactions);
  expect(await only(pool, timeoutMs)).toMatchObject({ isReachable: true, isMigrated: true });
  expect(pool.stats).toEqual({ inUse: 0, max: 2, waiting: 0 });
});

describe('a server that accepts and says nothing', () => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)));
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test('is not waited for longer than the timeout, beside one that answers', async () => {
    const { port } = server.address() as { port: number };
    const hung = createDatabasePool({
      key: 'core',
      connectionString: `postgresql://postgres@127.0.0.1:${port}/atriz_core`,
      connectTimeoutMs: timeoutMs,
    });
    // Long enough for the other database on a busy machine.
    expect(await checkHealth({ hung, db }, { timeoutMs: 5_000 })).toMatchObject({
      isHealthy: false,
      databases: {
        hung: { isReachable: false, error: 'atriz_core: no answer came within 5000 ms.' },
        db: { isReachable: true },
      },
    });
    for (const socket of sockets) socket.destroy();
    await hung.close();
  });
});
