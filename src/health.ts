// For health endpoints of applications: whether each database answers and is migrated, and how full its pool is.
import type { DatabaseKey } from './databases.ts';
import { ConfigurationError, ConnectionError, sqlState } from './errors.ts';
import { readApplied } from './migrations/applied.ts';
import { type MigrationsFolder, readFolder } from './migrations/journal.ts';
import { compareMigrations } from './migrations/state.ts';
import { Pool, type PoolStats } from './pool.ts';

export interface HealthOptions {
  /** Longest wait for all answers, in milliseconds. Default 2,000. */
  timeoutMs?: number | undefined;
}

export interface DatabaseHealth {
  readonly isReachable: boolean;
  /** Whether every migration of this package is applied unchanged; null if unknown. */
  readonly isMigrated: boolean | null;
  /** Milliseconds from the query to its answer, including the wait for a connection; null without an answer. */
  readonly latencyMs: number | null;
  /** Pool usage before the health query. */
  readonly pool: PoolStats;
  /** Why it is not reachable, without passwords. Contains host names: write it to logs, do not publish it. */
  readonly error: string | null;
}

export interface Health {
  /** True if every database is reachable and none has `isMigrated` false. */
  readonly isHealthy: boolean;
  /** Keys: the given names. For a single pool: its target, such as `tracking:mextrack`, or else its database name. */
  readonly databases: Readonly<Record<string, DatabaseHealth>>;
}

interface Answer {
  readonly isMigrated: boolean | null;
  readonly latencyMs: number;
}

interface Probe {
  readonly startedAt: number;
  readonly answer: Promise<Answer>;
}

/** Longest Node.js timer, in milliseconds. A longer one fires immediately, so a longer timeout sets no timer. */
const longestTimer = 2 ** 31 - 1;

/** Milliseconds after which a new probe may replace an unfinished one, which may never end on a dead connection. */
const abandonAfterMs = 30_000;

// At most one probe per pool: if a database hangs, requests must not accumulate queries.
const probes = new WeakMap<Pool, Probe>();
// Cached, because migration files do not change while the process runs.
const folders = new Map<DatabaseKey, MigrationsFolder>();

/**
 * Sends one query to each database, in parallel. Answers within `timeoutMs`, and does not throw if servers fail. Pools
 * without a registry key are only checked for reachability.
 * @throws ConfigurationError if timeoutMs is negative or not a number.
 */
export async function checkHealth(
  db: Pool | Readonly<Record<string, Pool>>,
  { timeoutMs = 2_000 }: HealthOptions = {},
): Promise<Health> {
  if (!(timeoutMs >= 0)) {
    throw new ConfigurationError(`timeoutMs is ${timeoutMs}: use a number of milliseconds, 0 or more.`);
  }
  const pools: [string, Pool][] = db instanceof Pool ? [[db.target ?? db.name, db]] : Object.entries(db);
  const results = await Promise.all(
    pools.map(async ([name, pool]) => [name, await checkPool(pool, timeoutMs)] as const),
  );
  return {
    isHealthy: results.every(([, { isReachable, isMigrated }]) => isReachable && isMigrated !== false),
    databases: Object.fromEntries(results),
  };
}

async function checkPool(pool: Pool, timeoutMs: number): Promise<DatabaseHealth> {
  const { stats } = pool;
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    const expire = () => reject(new Error(tooLateMessage(pool, stats, timeoutMs)));
    if (timeoutMs <= longestTimer) timer = setTimeout(expire, timeoutMs);
  });
  try {
    const answer = await Promise.race([probe(pool), tooLate]);
    return { isReachable: true, ...answer, pool: stats, error: null };
  } catch (error) {
    return {
      isReachable: false,
      isMigrated: null,
      latencyMs: null,
      pool: stats,
      error: error instanceof Error ? error.message : String(error),
    };
  } finally {
    clearTimeout(timer);
  }
}

const tooLateMessage = ({ name }: Pool, { inUse, max, waiting }: PoolStats, timeoutMs: number): string =>
  inUse === max
    ? `${name}: all ${max} connections of the pool are in use and ${waiting} more wait, still after ${timeoutMs} ms.`
    : `${name}: no answer came within ${timeoutMs} ms.`;

function probe(pool: Pool): Promise<Answer> {
  const running = probes.get(pool);
  if (running && performance.now() - running.startedAt < abandonAfterMs) return running.answer;
  const startedAt = performance.now();
  const answer = ask(pool, startedAt);
  const own = { startedAt, answer };
  probes.set(pool, own);
  const forget = () => {
    if (probes.get(pool) === own) probes.delete(pool);
  };
  // Also marks the rejection as handled: all callers may have timed out.
  answer.then(forget, forget);
  return answer;
}

async function ask(pool: Pool, startedAt: number): Promise<Answer> {
  const isMigrated = await askMigrated(pool);
  return { isMigrated, latencyMs: Math.round((performance.now() - startedAt) * 10) / 10 };
}

/** Reading the small table of migrations also shows that the server answers: no other query is needed. */
async function askMigrated(pool: Pool): Promise<boolean | null> {
  const { key } = pool;
  if (key === undefined) {
    await pool.query('SELECT 1');
    return null;
  }
  try {
    const { migrations, problems } = folderOf(key);
    const { pending, edited } = compareMigrations(migrations, await readApplied(pool));
    return pending.length + edited.length + problems.length === 0;
  } catch (error) {
    // 42501 insufficient_privilege: the role may not read that table, but the server answered.
    if (sqlState(error) === '42501' && !(error instanceof ConnectionError)) return null;
    throw error;
  }
}

function folderOf(key: DatabaseKey): MigrationsFolder {
  const folder = folders.get(key) ?? readFolder(key);
  folders.set(key, folder);
  return folder;
}
