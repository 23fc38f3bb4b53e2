// Three servers under Patroni: whatever becomes of the leader, work goes on, and nothing acknowledged is lost or doubled.
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
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

/** More of them on demand, and a table of the times: KILLS=10 npx vitest run test/driver/patroni.test.ts */
const kills = Number(process.env.KILLS ?? 3);
const victims = ['both', 'postgres', 'patroni'] as const;
const missing = await patroniIsMissing();
const title = `a cluster of Patroni${missing ? ` (skipped: ${missing})` : ''}`;

/** When something was acknowledged, in milliseconds. */
type Work = 'bare client' | 'withTransaction' | 'location writer' | 'login' | 'read on replicas';
const works: readonly Work[] = [
  'bare client',
  'withTransaction',
  'location writer',
  'login',
  'read on replicas',
];

interface Pause {
  /** Milliseconds without any acknowledgement, and its end. */
  readonly length: number;
  readonly end: number;
}

class Acknowledgements {
  #times: number[] = [performance.now()];

  add(): void {
    this.#times.push(performance.now());
  }

  get count(): number {
    return this.#times.length;
  }

  /** The longest pause that ended after `begin`. */
  longestPause(begin: number): Pause {
    let longest: Pause = { length: 0, end: begin };
    for (const [index, end] of this.#times.entries()) {
      const length = end - Math.max(this.#times[index - 1] ?? end, begin);
      if (length > longest.length) longest = { length, end };
    }
    return longest;
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
    const rows: string[][] = [['fault', 'new leader', ...works]];
    const load = await startLoad(cluster, acknowledged);
    onTestFinished(() => load.stop());

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
        // Those that supervise Patroni start it again, but not before another node leads.
        await leads(cluster, fault.includes('postgres alone') ? undefined : leader);
        await goesOn(acknowledged);
        await mend(leader);
        const next = await cluster.whole();
        await goesOn(acknowledged);
        const pauses = works.map((work) => acknowledged[work].longestPause(begin));
        rows.push([
          fault,
          next === leader ? 'the same' : next.name,
          ...pauses.map(({ length }) => (length / 1000).toFixed(1)),
        ]);
        console.log(rows.at(-1)?.join(' | '));
      } finally {
        await bare.stop();
      }
    };

    const names = {
      both: 'kill -9 of both',
      postgres: 'kill -9 of postgres alone',
      patroni: 'kill -9 of Patroni alone',
    };
    for (let kill = 0; kill < kills; kill += 1) {
      const victim = victims[kill % victims.length] ?? 'both';
      await meet(
        names[victim],
        (leader) => leader.kill(victim),
        (leader) => leader.start(),
      );
    }
    await meet(
      'silent',
      (leader) => leader.freeze(),
      (leader) => leader.thaw(),
    );
    await meet(
      'switchover',
      (leader) => cluster.switchover(leader),
      () => undefined,
    );
    await load.stop();
    await load.check();
  });
});

/** Waits until each kind of work was acknowledged some more. */
async function goesOn(acknowledged: Record<Work, Acknowledgements>): Promise<void> {
  const before = new Map(works.map((work) => [work, acknowledged[work].count]));
  for (const work of works) {
    while (acknowledged[work].count < (before.get(work) ?? 0) + 5) await sleep(20);
  }
}

/** Waits until a node leads, another than `old`. */
async function leads(cluster: PatroniCluster, old: PatroniNode | undefined): Promise<void> {
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
        connect_timeout: 2,
        fetch_types: false,
        onnotice: () => undefined,
      });
      const late = new Promise((resolve) => setTimeout(resolve, 2_000, 'late'));
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
  const writer = createLocationWriter(tracking, {
    onRetry: ({ error }) => console.log('  retry', String(error)),
  });
  const login = { email: 'patroni@example.com', password: 'a long password' };
  const user = await createUser(core, { ...login, name: 'P' }, { cost: 10 });
  const tokens: string[] = [];
  const unexpected: unknown[] = [];
  let isOver = false;
  let notes = 0;
  let points = 0;
  const begin = Date.now() - 86_400_000;

  /** Repeats after a lost connection, as an application may do with work that may run twice. */
  const repeat = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    for (;;) {
      try {
        return await work();
      } catch (error) {
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
  let stopping: Promise<void> | undefined;
  return {
    stop: () => {
      stopping ??= (async () => {
        isOver = true;
        await Promise.all(loops);
        await writer.flush();
      })();
      return stopping;
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
      await writer.close();
      await Promise.all([core.close(), tracking.close(), reads.close()]);
    },
  };
}

function isOfConnection(error: unknown): boolean {
  for (let current = error; current instanceof Error; current = current.cause) {
    if (current instanceof ConnectionError) return true;
  }
  return false;
}
