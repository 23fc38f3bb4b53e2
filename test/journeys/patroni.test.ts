// Three servers under Patroni: whatever becomes of the leader, work goes on, and nothing acknowledged is lost or doubled.
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { printTable } from '../../scripts/cli/output.ts';
import { createPlainTracking } from '../../scripts/simulation/plain-tracking.ts';
import { authenticate, createUser, issueToken, verifyToken } from '../../src/auth/index.ts';
import { ConnectionError, createDatabasePool, withTransaction } from '../../src/index.ts';
import { migrate } from '../../src/migrations/index.ts';
import { createLocationWriter } from '../../src/tracking/index.ts';
import {
  type PatroniCluster,
  type PatroniNode,
  patroniIsMissing,
  startPatroniCluster,
} from '../support/patroni.ts';
import { track } from '../support/tracking-points.ts';

/** More of them on demand: KILLS=10 npx vitest run test/journeys/patroni.test.ts */
const kills = Number(process.env.KILLS ?? 2);
const victims = ['both', 'patroni', 'postgres'] as const;
const missing = await patroniIsMissing();
const title = `a cluster of Patroni${missing ? ` (skipped: ${missing})` : ''}`;

type Work = 'bare client' | 'withTransaction' | 'location writer' | 'login' | 'read on replicas';
const works: readonly Work[] = [
  'bare client',
  'withTransaction',
  'location writer',
  'login',
  'read on replicas',
];

/** When the work of one kind was acknowledged, in milliseconds. */
class Acknowledgements {
  readonly #times: number[] = [performance.now()];

  add(): void {
    this.#times.push(performance.now());
  }

  get count(): number {
    return this.#times.length;
  }

  /** The longest time without one, in seconds, from `begin` on. */
  longestPause(begin: number): number {
    const times = [begin, ...this.#times.filter((time) => time > begin)];
    return Math.max(...times.map((time, index) => time - (times[index - 1] ?? time))) / 1000;
  }
}

describe.skipIf(missing)(title, () => {
  let cluster: PatroniCluster;
  beforeAll(async () => {
    cluster = await startPatroniCluster();
    await using db = createDatabasePool({ connectionString: cluster.url('postgres', 'read-write') });
    for (const name of ['atriz_core', 'atriz_tracking']) {
      await db.query(`CREATE DATABASE ${name} TEMPLATE template0`);
    }
    await using core = createDatabasePool({ connectionString: cluster.url('atriz_core', 'read-write') });
    await migrate(core, 'core');
    await core.query(
      'CREATE TABLE notes (n int NOT NULL); CREATE INDEX ON notes (n); CREATE TABLE bare (n int)',
    );
    await using tracking = createDatabasePool({
      connectionString: cluster.url('atriz_tracking', 'read-write'),
    });
    await (cluster.hasTimescale ? migrate(tracking, 'tracking') : createPlainTracking(tracking));
  });
  afterAll(() => cluster?.stop());

  test(`work goes on over ${kills} kills of the leader, a silent leader and a switchover`, async () => {
    const acknowledged = Object.fromEntries(works.map((work) => [work, new Acknowledgements()])) as Record<
      Work,
      Acknowledgements
    >;
    const rows: string[][] = [];
    const load = await startLoad(cluster, acknowledged);
    onTestFinished(() => load.end());

    const meet = async (
      fault: string,
      strike: (leader: PatroniNode) => Promise<void>,
      mend: (leader: PatroniNode) => void | Promise<void>,
    ) => {
      const leader = await cluster.whole();
      const bare = startBareClient(cluster, acknowledged['bare client']);
      try {
        await goesOn(acknowledged);
        const begin = performance.now();
        await strike(leader);
        await goesOn(acknowledged);
        await mend(leader);
        const next = await cluster.whole();
        await goesOn(acknowledged);
        const [needed = 0, ...pauses] = works.map((work) => acknowledged[work].longestPause(begin));
        rows.push([
          fault,
          next === leader ? 'the same' : 'another',
          ...[needed, ...pauses].map((seconds) => seconds.toFixed(1)),
        ]);
        // Generous: a login takes long on a busy machine. Without an end of silent connections it would be a minute more.
        for (const seconds of pauses) expect(seconds).toBeLessThan(1.5 * needed + 15);
        expect(pauses.at(-1)).toBeLessThan(Math.max(needed, 10));
      } finally {
        await bare.stop();
      }
    };

    const names = {
      both: 'kill -9 of Patroni and its server',
      postgres: 'kill -9 of the server',
      patroni: 'kill -9 of Patroni',
    };
    for (let kill = 0; kill < kills; kill += 1) {
      const victim = victims[kill % victims.length] ?? 'both';
      await meet(
        names[victim],
        async (leader) => {
          await leader.kill(victim);
          // Patroni starts its server again. What supervises Patroni starts it too, but not before another node leads.
          if (victim !== 'postgres') await anotherLeads(cluster, leader);
        },
        (leader) => leader.start(),
      );
    }
    await meet(
      'stopped processes (SIGSTOP)',
      async (leader) => {
        await leader.freeze();
        await anotherLeads(cluster, leader);
      },
      (leader) => leader.thaw(),
    );
    await meet(
      'switchover',
      (leader) => cluster.switchover(leader),
      () => undefined,
    );
    await load.stop();
    await load.check();
    printTable(['seconds without an acknowledgement', 'leader', ...works], rows);
  });
});

/** Waits until each kind of work was acknowledged some more. */
async function goesOn(acknowledged: Record<Work, Acknowledgements>): Promise<void> {
  const before = new Map(works.map((work) => [work, acknowledged[work].count]));
  for (const work of works) {
    while (acknowledged[work].count < (before.get(work) ?? 0) + 5) await sleep(20);
  }
}

async function anotherLeads(cluster: PatroniCluster, old: PatroniNode): Promise<void> {
  for (;;) {
    for (const node of cluster.nodes) if (node !== old && (await node.isLeader())) return;
    await sleep(50);
  }
}

/** A write on a connection of its own to each host, again and again: what Patroni needs, without this library. */
function startBareClient(cluster: PatroniCluster, acknowledged: Acknowledgements) {
  let isOver = false;
  const loops = cluster.nodes.map(async (node) => {
    while (!isOver) {
      const sql = postgres(cluster.urlOf(node, 'atriz_core'), {
        max: 1,
        connect_timeout: 5,
        fetch_types: false,
        onnotice: () => undefined,
      });
      const late = new Promise((resolve) => setTimeout(resolve, 5_000, 'late'));
      const written = sql`INSERT INTO bare VALUES (1)`.then(
        () => 'written',
        () => 'failed',
      );
      if ((await Promise.race([written, late])) === 'written') acknowledged.add();
      await sql.end({ timeout: 0 });
      await sleep(200);
    }
  });
  return {
    stop: async () => {
      isOver = true;
      await Promise.all(loops);
    },
  };
}

/** Everything that an application does, until `stop`. */
async function startLoad(cluster: PatroniCluster, acknowledged: Record<Work, Acknowledgements>) {
  const connectionString = cluster.url('atriz_core', 'read-write');
  const core = createDatabasePool({ connectionString });
  const tracking = createDatabasePool({ connectionString: cluster.url('atriz_tracking', 'read-write') });
  const replicas = cluster.nodes.map((node) => cluster.urlOf(node, 'atriz_core'));
  // Longer than Patroni needs for a new leader: nobody knows how old replicas are while there is none.
  const reads = createDatabasePool({ connectionString, replicas, replicaMaxLagMs: 120_000 });
  const writer = createLocationWriter(tracking);
  const login = { email: 'patroni@example.com', password: 'a long password' };
  const user = await createUser(core, { ...login, name: 'P' }, { cost: 10 });
  const tokens: string[] = [];
  const unexpected: unknown[] = [];
  let isOver = false;
  let isEnded = false;
  let notes = 0;
  let points = 0;
  const begin = Date.now() - 86_400_000;

  /** Repeats after a lost connection, as an application may do with work that may run twice. */
  const repeat = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (isEnded) throw error;
        if (!isOfConnection(error)) unexpected.push(error);
        await sleep(20);
      }
    }
  };
  const note = async () => {
    while (!isOver) {
      notes += 1;
      const n = notes;
      const insert =
        'INSERT INTO notes SELECT $1::int WHERE NOT EXISTS (SELECT FROM notes WHERE n = $1::int)';
      await repeat(() =>
        withTransaction(core, (transaction) => transaction.query(insert, [n]), { retries: 3 }),
      );
      acknowledged.withTransaction.add();
      await sleep(20);
    }
  };
  const logIn = async () => {
    while (!isOver) {
      const answer = await repeat(() => authenticate(core, login, { cost: 10 }));
      if (!answer.ok) unexpected.push(answer);
      const { token } = await repeat(() => issueToken(core, { userId: user.id, type: 'refresh' }));
      tokens.push(token);
      acknowledged.login.add();
      await sleep(100);
    }
  };
  const writePoints = async () => {
    const [template] = track(1);
    while (!isOver && template) {
      const n = points;
      points += 1;
      void writer.write({ ...template, time: new Date(begin + n * 1000), metadata: { n } }).then(
        () => acknowledged['location writer'].add(),
        (error: unknown) => unexpected.push(error),
      );
      await sleep(10);
    }
  };
  const read = async () => {
    while (!isOver) {
      await repeat(() => reads.query('SELECT count(*) FROM users'));
      acknowledged['read on replicas'].add();
      await sleep(20);
    }
  };
  const loops = [note(), note(), note(), logIn(), writePoints(), read(), read()];
  const settled = Promise.allSettled(loops);
  return {
    stop: async () => {
      isOver = true;
      await Promise.all(loops);
      await writer.flush();
    },
    check: async () => {
      expect(unexpected).toEqual([]);
      const stored = await core.query<{ n: number }>('SELECT n FROM notes ORDER BY n');
      expect(stored.rows.map(({ n }) => n)).toEqual(Array.from({ length: notes }, (_, index) => index + 1));
      const located = await tracking.query<{ n: number }>(
        "SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n",
      );
      expect(located.rows.map(({ n }) => n)).toEqual(Array.from({ length: points }, (_, index) => index));
      for (const token of tokens) await verifyToken(core, token, 'refresh');
    },
    /** Also after a failure, when no server may answer. */
    end: async () => {
      isOver = true;
      isEnded = true;
      await writer.close({ timeoutMs: 10_000 }).catch(() => undefined);
      await Promise.all([core.close(), tracking.close(), reads.close()]);
      await settled;
    },
  };
}

function isOfConnection(error: unknown): boolean {
  for (let current = error; current instanceof Error; current = current.cause) {
    if (current instanceof ConnectionError) return true;
  }
  return false;
}
