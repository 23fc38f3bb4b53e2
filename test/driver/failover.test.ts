// Several hosts in one URL: the pool finds the primary, before and after a promotion, and nothing acknowledged is lost.
import { createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createPlainTracking } from '../../scripts/simulation/plain-tracking.ts';
import { ConnectionError, createDatabasePool, type Pool, withTransaction } from '../../src/index.ts';
import { createLocationWriter } from '../../src/tracking/index.ts';
import { failure } from '../support/failure.ts';
import { type ReplicatedServers, startReplicatedServers } from '../support/own-server.ts';
import { track } from '../support/tracking-points.ts';

let servers: ReplicatedServers;
beforeAll(async () => {
  servers = await startReplicatedServers();
  await using db = createDatabasePool({ connectionString: servers.primary.url });
  await createPlainTracking(db);
  await db.query('CREATE TABLE notes (n int PRIMARY KEY)');
});
afterAll(() => servers.stop());

const portOf = async (db: Pool) =>
  Number((await db.query("SELECT current_setting('port') AS port")).rows[0]?.port);

describe('several hosts in one URL', () => {
  test.each([
    ['any', 'primary'],
    ['read-write', 'primary'],
    ['primary', 'primary'],
    ['standby', 'standby'],
    ['read-only', 'standby'],
    ['prefer-standby', 'standby'],
  ] as const)('target_session_attrs=%s reaches the %s', async (target, expected) => {
    await using db = createDatabasePool({ connectionString: servers.url(target) });
    expect(await portOf(db)).toBe(servers[expected].port);
  });

  test('a host that refuses, or accepts and stays silent, does not keep the pool from the other', async () => {
    const silent = await listen(() => undefined);
    const refusing = 'postgresql://postgres:postgres@127.0.0.1:1,127.0.0.1:';
    const mute = `postgresql://postgres:postgres@127.0.0.1:${silent},127.0.0.1:`;
    for (const url of [
      `${refusing}${servers.primary.port}/postgres`,
      `${mute}${servers.primary.port}/postgres`,
    ]) {
      const connectionString = `${url}?target_session_attrs=primary`;
      await using db = createDatabasePool({ connectionString, connectTimeoutMs: 5_000 });
      expect(await portOf(db)).toBe(servers.primary.port);
    }
  });

  test('none of them fits: one error that says so, and the pool goes on', async () => {
    const connectionString = `postgresql://postgres:postgres@127.0.0.1:1,127.0.0.1:${servers.standby.port}/postgres?target_session_attrs=primary`;
    await using db = createDatabasePool({ connectionString, connectTimeoutMs: 2_000, max: 1 });
    for (const again of [1, 2]) {
      expect([again, await failure(db.query('SELECT 1'))]).toMatchObject([
        again,
        { code: 'TARGET_SESSION_ATTRS', message: expect.stringContaining('Promote a standby') },
      ]);
    }
  });

  test('none answers: an error at once', async () => {
    await using db = createDatabasePool({
      connectionString: 'postgresql://u@127.0.0.1:1,127.0.0.1:2/postgres',
    });
    const error = await failure(db.query('SELECT 1'));
    expect(error).toBeInstanceOf(ConnectionError);
    expect(String(error)).toContain('127.0.0.1:1,127.0.0.1:2');
  });
});

describe('a promotion in the middle of writes', () => {
  test('everything acknowledged is on the new primary, and the writer stores every event once', async () => {
    const events = track(10_000, 500);
    const connectionString = servers.url('read-write');
    await using db = createDatabasePool({ connectionString, max: 3, applicationName: 'notes' });
    await using tracking = createDatabasePool({ connectionString, applicationName: 'points' });
    const retried: unknown[] = [];
    await using writer = createLocationWriter(tracking, {
      retryDelayMs: { min: 20, max: 200 },
      batchSize: 500,
      onRetry: ({ error }) => retried.push(error),
    });
    const acknowledged: number[] = [];
    const failed = new Map<number, unknown>();
    const unanswered = new Set<number>();
    let isOver = false;
    let n = 0;
    const note = async () => {
      while (!isOver) {
        n += 1;
        const own = n;
        unanswered.add(own);
        await withTransaction(db, (transaction) =>
          transaction.query('INSERT INTO notes VALUES ($1)', [own]),
        ).then(
          () => acknowledged.push(own),
          (error: unknown) => failed.set(own, error),
        );
        unanswered.delete(own);
      }
    };
    const noting = [note(), note(), note()];
    let fed = 0;
    let goOn: () => void = () => undefined;
    const isHeld = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    // A failed expectation must not leave them writing.
    await using _ = {
      async [Symbol.asyncDispose]() {
        isOver = true;
        goOn();
        await Promise.all(noting);
      },
    };
    const feeding = (async () => {
      for (const event of events) {
        void writer.write(event);
        fed += 1;
        if (fed === 3_000) await isHeld;
        if (fed % 100 === 0) await sleep(5);
      }
      await writer.flush();
    })();
    while (fed < 3_000 || acknowledged.length < 100) await sleep(1);

    await using standby = createDatabasePool({ connectionString: servers.standby.url, max: 1 });
    // A standby that confirms nothing: the primary has each commit on its disk, and owes the answer.
    const letGo = await holdReceiver(standby);
    let inFlight: number[] = [];
    try {
      goOn();
      await using primary = createDatabasePool({ connectionString: servers.primary.url, max: 1 });
      const waiting = async () =>
        (
          await primary.query<{ notes: number; points: number }>(
            `SELECT count(*) FILTER (WHERE application_name = 'notes')::int AS notes,
               count(*) FILTER (WHERE application_name = 'points')::int AS points
             FROM pg_stat_activity WHERE wait_event = 'SyncRep'`,
          )
        ).rows[0];
      await expect.poll(waiting).toEqual({ notes: 3, points: expect.toSatisfy((count) => count > 0) });
      inFlight = [...unanswered];
      await servers.primary.crash();
    } finally {
      letGo();
    }
    await standby.query('SELECT pg_promote()');
    const before = acknowledged.length;
    while (acknowledged.length < before + 100) await sleep(1);
    isOver = true;
    await Promise.all([feeding, ...noting]);

    expect(await portOf(db)).toBe(servers.standby.port);
    expect(inFlight).toHaveLength(3);
    for (const own of inFlight) expect(failed.get(own)).toBeInstanceOf(ConnectionError);
    expect(retried[0]).toBeInstanceOf(ConnectionError);
    const { rows } = await standby.query<{ n: number }>('SELECT n FROM notes');
    const stored = new Set(rows.map((row) => row.n));
    expect(acknowledged.filter((own) => !stored.has(own))).toEqual([]);
    for (const error of failed.values()) expect(error).toBeInstanceOf(ConnectionError);
    expect(writer.stats).toMatchObject({ written: events.length, rejected: 0 });
    const points = await standby.query<{ n: number }>(
      "SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n",
    );
    expect(points.rows.map((row) => row.n)).toEqual(events.map((_, index) => index));
  });

  test('the old primary, back as if nothing had happened, gets no write', async () => {
    await using db = createDatabasePool({ connectionString: servers.url('primary'), max: 1 });
    expect(await portOf(db)).toBe(servers.standby.port);
    await servers.primary.start();
    await using later = createDatabasePool({ connectionString: servers.url('primary') });
    expect(await portOf(later)).toBe(servers.standby.port);
    // Even while the new one is away: what it took then would be lost.
    await servers.standby.crash();
    // The first may still meet the connection that is lost.
    const waiting = portOf(db).catch(() => portOf(db));
    await servers.standby.start();
    expect(await waiting).toBe(servers.standby.port);
  });
});

/** Stops the process that writes the primary's log on a standby. @returns what lets it go on. */
async function holdReceiver(standby: Pool): Promise<() => void> {
  const { rows } = await standby.query<{ pid: number }>('SELECT pid FROM pg_stat_wal_receiver');
  const pid = rows[0]?.pid;
  if (pid === undefined) throw new Error('The standby receives nothing.');
  process.kill(pid, 'SIGSTOP');
  return () => process.kill(pid, 'SIGCONT');
}

/** A server that does nothing but `onConnection`. @returns its port. */
async function listen(onConnection: () => void): Promise<number> {
  const server: Server = createServer(onConnection).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as { port: number }).port;
}
