// A server that owes an answer, while another host of the URL becomes the primary: what waits is told, and goes on there.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPlainTracking } from '../../scripts/simulation/plain-tracking.ts';
import { ConnectionError, createDatabasePool, type Pool, withTransaction } from '../../src/index.ts';
import { createLocationWriter } from '../../src/tracking/index.ts';
import { failure } from '../support/failure.ts';
import { type ReplicatedServers, startReplicatedServers } from '../support/own-server.ts';
import { startSilentProxy } from '../support/silent-proxy.ts';
import { track } from '../support/tracking-points.ts';

describe('a primary that owes an answer', () => {
  let servers: ReplicatedServers;
  let proxy: Awaited<ReturnType<typeof startSilentProxy>>;
  const open: Pool[] = [];
  /** With the primary itself, or behind the proxy. */
  const openPool = (primary: number | string, options = {}) => {
    const hosts = `127.0.0.1:${primary},127.0.0.1:${servers.standby.port}`;
    const connectionString = `postgresql://postgres:postgres@${hosts}/postgres?target_session_attrs=read-write`;
    const pool = createDatabasePool({ connectionString, ...options });
    open.push(pool);
    return pool;
  };
  const portOf = async (db: Pool) =>
    Number((await db.query("SELECT current_setting('port') AS port")).rows[0]?.port);

  beforeAll(async () => {
    servers = await startReplicatedServers();
    proxy = await startSilentProxy(servers.primary.url);
    await using db = createDatabasePool({ connectionString: servers.primary.url });
    await createPlainTracking(db);
    await db.query('CREATE TABLE notes (n int)');
  });
  afterAll(async () => {
    proxy?.heal();
    for (const pool of open) await pool.close();
    await proxy?.stop();
    await servers?.stop();
  });

  test('is left alone while it is the primary: a statement may take long', async () => {
    const db = openPool(servers.primary.port);
    expect((await db.query("SELECT 'slept' AS did FROM pg_sleep(3)")).rows).toEqual([{ did: 'slept' }]);
  });

  test('is left when another one is promoted, whether it is silent or waits for its standby', async () => {
    const { port } = new URL(proxy.url);
    const silent = openPool(port);
    // More than a test may take: a round of questions must not wait for the host that is silent.
    const patient = openPool(port, { connectTimeoutMs: 1_200_000 });
    const waiting = openPool(servers.primary.port);
    const behind = openPool(port);
    const writer = createLocationWriter(behind, { connections: 1 });
    const points = track(3);
    await writer.write(points[0] as (typeof points)[number]);
    for (const db of [silent, waiting]) expect(await portOf(db)).toBe(servers.primary.port);

    const insert = 'INSERT INTO notes VALUES (1)';
    const lost: Promise<unknown>[] = [];
    const begun = withTransaction(silent, async (transaction) => {
      await transaction.query(insert);
      proxy.mute();
      await transaction.query(insert);
    });
    lost.push(failure(begun));
    while (proxy.silent === 0) await new Promise((resolve) => setImmediate(resolve));
    lost.push(failure(silent.query(insert)));
    const stored = points.slice(1).map((point) => writer.write(point));
    const first = portOf(patient);
    await using standby = createDatabasePool({ connectionString: servers.standby.url, max: 1 });
    await standby.query('SELECT pg_promote()');
    // On the old primary, which runs, and whose standby has left it: this commit is never confirmed.
    lost.push(failure(waiting.query(insert)));
    lost.push(failure(withTransaction(waiting, (transaction) => transaction.query(insert))));

    for (const error of await Promise.all(lost)) {
      expect(error).toBeInstanceOf(ConnectionError);
      expect(error).toMatchObject({
        code: 'CONNECTION_REPLACED',
        message: expect.stringContaining('Try again'),
      });
    }
    await Promise.all(stored);
    expect(await first).toBe(servers.standby.port);
    for (const db of [silent, waiting]) expect(await portOf(db)).toBe(servers.standby.port);
    const { rows } = await standby.query("SELECT metadata->>'n' AS n FROM location_events ORDER BY n");
    expect(rows).toEqual([{ n: '0' }, { n: '1' }, { n: '2' }]);
    await writer.close();
  });
});
