// A network that goes silent under a writer, in each phase of a batch: no packet, no end of the connection, both sides wait.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createDatabasePool, type Pool } from '../../../src/pool.ts';
import { createLocationWriter } from '../../../src/tracking/index.ts';
import { startSilentProxy } from '../../support/silent-proxy.ts';
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
