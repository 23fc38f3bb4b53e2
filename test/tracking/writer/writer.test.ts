// The location writer: durable when it says so, in order, once, and honest about what it could not store.
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { createDatabasePool, type Pool } from '../../../src/pool.ts';
import {
  createLocationWriter,
  LocationsRejectedError,
  LocationWriterClosedError,
  LocationWriterFullError,
} from '../../../src/tracking/index.ts';
import { failure } from '../../support/failure.ts';
import { plainTracking } from '../../support/tracking.ts';
import { day, point, track } from '../../support/tracking-points.ts';

describe('createLocationWriter', () => {
  let db: Pool;
  let url: string;
  beforeAll(async () => {
    ({ db, url } = await plainTracking({ max: 6 }));
    // The order in which rows came in; and a row that only the server refuses.
    await db.query('ALTER TABLE location_events ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY');
    await db.query('ALTER TABLE location_events ADD CONSTRAINT no_island CHECK (latitude <> 13)');
  });

  const numbers = async (deviceId: string, from: Pool = db) =>
    (
      await from.query<{ n: number }>(
        "SELECT (metadata->>'n')::int AS n FROM location_events WHERE device_id = $1 ORDER BY seq",
        [deviceId],
      )
    ).rows.map(({ n }) => n);

  test('an event is there when its promise resolves, and events share batches', async () => {
    const writer = createLocationWriter(db);
    const events = track(500, 10);
    await Promise.all(
      events.map(async (event) => {
        await writer.write(event);
        const n = (event.metadata as { n: number }).n;
        if (n % 100 === 0) expect(await numbers(event.deviceId)).toContain(n);
      }),
    );
    expect(writer.stats).toMatchObject({ written: 500, rejected: 0, pending: 0, retries: 0 });
    expect(writer.stats.batches).toBeLessThan(10);
    await writer.close();
    expect((await db.query('SELECT 1 FROM location_writers')).rowCount).toBe(0);
  });

  test('a device keeps the order of its events over many batches and connections', async () => {
    await using writer = createLocationWriter(db, { connections: 3, batchSize: 70 });
    const events = track(6_000, 12);
    await Promise.all(events.map((event) => writer.write(event)));
    expect(writer.stats.batches).toBeGreaterThan(80);
    for (const deviceId of new Set(events.map((event) => event.deviceId))) {
      const stored = await numbers(deviceId);
      expect(stored).toEqual([...stored].sort((one, two) => one - two));
      expect(stored).toHaveLength(500);
    }
  });

  test('batches of COPY size are written as well, once', async () => {
    await using writer = createLocationWriter(db, { connections: 1, batchSize: 3_000 });
    const events = track(9_000);
    await Promise.all(events.map((event) => writer.write(event)));
    expect(await numbers(events[0]?.deviceId ?? '')).toEqual(events.map((_, n) => n));
    expect(writer.stats.batches).toBeLessThan(6);
  });

  test('an event that does not fit is refused with its reason, and harms no other', async () => {
    const rejected: string[] = [];
    await using writer = createLocationWriter(db, { onReject: (_, error) => rejected.push(String(error)) });
    const good = point({ metadata: { n: 1 } });
    const [, bad, old] = await Promise.all([
      writer.write(good),
      failure(writer.write(point({ latitude: 91 }))),
      failure(writer.write(point({ time: new Date(Date.now() - 31 * day) }))),
    ]);
    expect(bad).toBeInstanceOf(LocationsRejectedError);
    expect(String(bad)).toContain('latitude is 91');
    expect(String(old)).toContain('older than the raw retention of 30 days');
    expect(await numbers(good.deviceId)).toEqual([1]);
    expect(writer.stats).toMatchObject({ written: 1, rejected: 2 });
    expect(rejected).toHaveLength(2);
  });

  test('an event that only the server refuses is parted from its batch', async () => {
    await using writer = createLocationWriter(db, { connections: 1 });
    const events = track(300);
    const answers = await Promise.allSettled(
      events.map((event, n) => writer.write(n === 123 ? { ...event, latitude: 13 } : event)),
    );
    const refused = answers.flatMap((answer, n) =>
      answer.status === 'rejected' ? [[n, answer.reason.code]] : [],
    );
    expect(refused).toEqual([[123, '23514']]);
    const expected = events.map((_, n) => n).filter((n) => n !== 123);
    expect(await numbers(events[0]?.deviceId ?? '')).toEqual(expected);
    expect(writer.stats).toMatchObject({ written: 299, rejected: 1, pending: 0 });
  });

  test('a full writer refuses, and ready() says when there is room', async () => {
    await using writer = createLocationWriter(db, { maxPending: 10 });
    const accepted = track(10).map((event) => writer.write(event));
    expect(await failure(writer.write(point()))).toBeInstanceOf(LocationWriterFullError);
    await writer.ready();
    await writer.write(point());
    await Promise.all(accepted);
    expect(writer.stats).toMatchObject({ written: 11, rejected: 1 });
  });

  test('flush() does not wait for company', async () => {
    await using writer = createLocationWriter(db, { maxWaitMs: 60_000 });
    const written = writer.write(point());
    await writer.flush();
    expect(writer.stats).toMatchObject({ written: 1, pending: 0 });
    await written;
  });

  test('close() drains, and then nothing is accepted', async () => {
    const writer = createLocationWriter(db, { maxWaitMs: 60_000 });
    const events = track(1_000, 5);
    const written = Promise.all(events.map((event) => writer.write(event)));
    await writer.close();
    await written;
    expect(writer.stats.written).toBe(1_000);
    expect(await failure(writer.write(point()))).toBeInstanceOf(LocationWriterClosedError);
  });

  test('a server out of reach: close() gives up in time and says how many were not stored', async () => {
    await using nowhere = createDatabasePool({
      connectionString: 'postgresql://a@127.0.0.1:1/atriz_tracking',
    });
    const retries: number[] = [];
    const writer = createLocationWriter(nowhere, {
      maxWaitMs: 0,
      retryDelayMs: { min: 5, max: 40 },
      onRetry: ({ delayMs }) => retries.push(delayMs),
    });
    const attempts = track(3).map((event) => failure(writer.write(event)));
    while (retries.length < 4) await sleep(5);
    const closed = await failure(writer.close({ timeoutMs: 50 }));
    expect(String(closed)).toContain('3 locations were not confirmed');
    for (const error of await Promise.all(attempts)) expect(error).toBeInstanceOf(LocationWriterClosedError);
    expect(retries.slice(0, 4)).toEqual([5, 10, 20, 40]);
    expect(writer.stats.lastError).toBeDefined();
  });

  test('an answer that is lost after the COMMIT does not write a batch twice', async () => {
    const proxy = await startProxy(url);
    const pool = createDatabasePool({ connectionString: proxy.url, max: 2 });
    try {
      for (const batchSize of [50, 2_000]) {
        const writer = createLocationWriter(pool, {
          connections: 1,
          batchSize,
          retryDelayMs: { min: 5, max: 20 },
        });
        await writer.write(point());
        const events = track(batchSize * 3);
        proxy.loseNextCommit();
        await Promise.all(events.map((event) => writer.write(event)));
        expect(await numbers(events[0]?.deviceId ?? '')).toEqual(events.map((_, n) => n));
        expect(writer.stats.retries).toBeGreaterThan(0);
        await writer.close();
      }
    } finally {
      await pool.close();
      await proxy.stop();
    }
  });

  test('a writer whose row is gone, because tables were emptied, goes on', async () => {
    await using writer = createLocationWriter(db, { connections: 1 });
    const events = track(4);
    for (const event of events.slice(0, 2)) await writer.write(event);
    await db.query('TRUNCATE location_writers, location_events');
    for (const event of events.slice(2)) await writer.write(event);
    expect(await numbers(events[0]?.deviceId ?? '')).toEqual([2, 3]);
  });

  test.each([
    [{ connections: 0 }],
    [{ batchSize: 1.5 }],
    [{ maxWaitMs: -1 }],
    [{ maxPending: Number.NaN }],
    [{ retryDelayMs: { min: 0, max: 5 } }],
  ])('refuses the options %j', (options) => {
    expect(() => createLocationWriter(db, options)).toThrow(/use a whole number from/);
  });
});

/** Between pool and server: on demand it lets the next COMMIT reach the server, and loses the answer with the connection. */
async function startProxy(url: string) {
  const { hostname, port } = new URL(url);
  let armed = false;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = tcpConnect({ host: hostname, port: Number(port || 5432) });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
    }
    client.pipe(upstream);
    upstream.on('data', (data) => {
      // A single statement commits before its own answer is sent.
      if (armed && /COMMIT\0|INSERT 0 [1-9]/.test(data.toString('latin1'))) {
        armed = false;
        client.destroy();
        upstream.destroy();
      } else client.write(data);
    });
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxied = new URL(url);
  proxied.hostname = '127.0.0.1';
  proxied.port = String((server.address() as { port: number }).port);
  return {
    url: proxied.href,
    loseNextCommit: () => {
      armed = true;
    },
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
