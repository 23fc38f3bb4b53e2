// A network that goes silent under a writer, in each phase of a batch: no packet, no end of the connection, both sides wait.
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createDatabasePool, type Pool } from '../../../src/pool.ts';
import { createLocationWriter } from '../../../src/tracking/index.ts';
import { plainTracking } from '../../support/tracking.ts';
import { point, track } from '../../support/tracking-points.ts';

/** What the client sends first in a phase. */
const phases = {
  connect: 'user\0',
  BEGIN: 'begin',
  number: 'UPDATE location_writers SET last_batch = $2',
  'COPY begin': 'COPY location_events',
  'COPY data': 'PGCOPY\n\xff',
  'COPY end': 'c\0\0\0\x04',
  COMMIT: 'commit',
  // Its text is prepared by then: the application of its points, which are parameters.
  'one statement': 'mextrack',
} as const;
type Phase = keyof typeof phases;

describe('a writer whose network goes silent', () => {
  let db: Pool;
  let proxy: Awaited<ReturnType<typeof startSilentProxy>>;
  beforeAll(async () => {
    const { db: direct, url } = await plainTracking({ max: 2 });
    db = direct;
    proxy = await startSilentProxy(url);
  });
  beforeEach(() => db.query('TRUNCATE location_events, location_writers'));
  afterAll(() => proxy?.stop());

  const cases = (Object.keys(phases) as Phase[]).flatMap((phase) =>
    (['request', 'answer'] as const).map((lost) => [phase, lost] as const),
  );
  test.each(cases)('%s, %s lost: everything is stored, once', async (phase, lost) => {
    const pool = createDatabasePool({ connectionString: proxy.url, max: 3, applicationName: 'silent' });
    const writer = createLocationWriter(pool, {
      connections: 1,
      batchSize: 500,
      attemptTimeoutMs: 300,
      retryDelayMs: { min: 10, max: 50 },
    });
    await writer.write(point({ metadata: { n: -1 } }));
    const events = track(phase === 'one statement' ? 100 : 500, 1, Date.now() - 20 * 86_400_000);
    proxy.silence(phases[phase], lost);
    if (phase === 'connect') proxy.silenceAll();
    await Promise.all(events.map((event) => writer.write(event)));
    expect(proxy.silent).toBeGreaterThan(0);
    const { rows } = await db.query<{ n: number }>(
      "SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n",
    );
    expect(rows.map(({ n }) => n)).toEqual([-1, ...events.map((_, n) => n)]);
    await writer.close();
    // Before the pool, which would wait for its silent connections.
    proxy.heal();
    await pool.close();
  });
});

/** Between pool and server: from a message of the client on, nothing passes on that connection, in either direction. */
async function startSilentProxy(url: string) {
  const { hostname, port } = new URL(url);
  let armed: { text: string; lost: 'request' | 'answer' } | undefined;
  let silent = new Set<Socket>();
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = tcpConnect({ host: hostname, port: Number(port || 5432), allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
    }
    client.on('data', (data) => {
      if (silent.has(client)) return;
      const matches = armed && data.toString('latin1').includes(armed.text);
      if (matches && armed) {
        silent.add(client);
        const { lost } = armed;
        armed = undefined;
        if (lost === 'request') return;
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!silent.has(client)) client.write(data);
    });
    client.on('end', () => !silent.has(client) && upstream.end());
    upstream.on('end', () => !silent.has(client) && client.end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxied = new URL(url);
  proxied.hostname = '127.0.0.1';
  proxied.port = String((server.address() as { port: number }).port);
  return {
    url: proxied.href,
    get silent() {
      return silent.size;
    },
    silence: (text: string, lost: 'request' | 'answer') => {
      silent = new Set();
      armed = { text, lost };
    },
    /** Every connection that is open. */
    silenceAll: () => {
      for (const socket of sockets) if (socket.localPort === Number(proxied.port)) silent.add(socket);
    },
    heal: () => {
      for (const s of sockets) s.destroy();
    },
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
