// The session of a migration run: a separate connection that holds the migration lock.
import { setTimeout as sleep } from 'node:timers/promises';
import { endingTimeouts } from '../driver/timeouts.ts';
import { ConfigurationError, MigrationError } from '../errors.ts';
import type { Database, Pool } from '../pool.ts';

// Any fixed number that other programs do not use for advisory locks in the same database.
const lockId = '7218340911';

export interface LockOptions {
  /** How long to wait for another migrator, in milliseconds. Default 60,000. */
  waitMs?: number | undefined;
  /** Called once if another session holds the lock. `holder` describes that session. */
  onWait?: ((holder: string) => void) | undefined;
}

/** Another migrator held the lock for longer than `waitMs`. */
export class MigrationLockError extends MigrationError {
  override readonly name = 'MigrationLockError';
  override readonly code = 'MIGRATION_LOCKED';
}

/**
 * Runs `work` on a separate connection that holds the migration lock of the database.
 * @throws ConfigurationError behind a transaction-pooling proxy, where a session lock protects nothing.
 * @throws MigrationLockError naming the session that holds the lock.
 */
export async function withMigrationSession<Result>(
  pool: Pool,
  { waitMs = 60_000, onWait }: LockOptions,
  work: (session: Database) => Promise<Result>,
): Promise<Result> {
  if (pool.isProxied) {
    throw new ConfigurationError(
      `${pool.name} is reached through a transaction-pooling proxy (pgbouncer=true), which shares sessions: ` +
        "migrations need the server's own URL.",
    );
  }
  // Not one of the pool's connections: those are closed when idle or old, which would drop the lock.
  await using session = pool.dedicated();
  await prepareSession(session, {});
  await lock(session, waitMs, onWait);
  try {
    return await work(session);
  } finally {
    await session.query('SELECT pg_advisory_unlock($1)', [lockId]).catch(() => undefined);
  }
}

async function lock(session: Database, waitMs: number, onWait: LockOptions['onWait']): Promise<void> {
  const deadline = Date.now() + waitMs;
  let told = false;
  while (!(await tryLock(session))) {
    const holder = await describeHolder(session);
    if (Date.now() >= deadline) {
      throw new MigrationLockError(
        `${session.name} is being migrated by ${holder}, still after ${Math.round(waitMs / 1000)} s: wait for it (--wait SECONDS), or end it.`,
        { database: session.target ?? session.name },
      );
    }
    if (!told) onWait?.(holder);
    told = true;
    await sleep(Math.min(100 + Math.random() * 200, Math.max(deadline - Date.now(), 1)));
  }
}

async function tryLock(session: Database): Promise<boolean> {
  const { rows } = await session.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [
    lockId,
  ]);
  return rows[0]?.locked ?? false;
}

const holdsLock = `l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = $1::bigint`;

async function describeHolder(session: Database): Promise<string> {
  const { rows } = await session.query<SessionFacts>(
    `SELECT a.pid, a.application_name AS application, a.client_addr::text AS address, a.backend_start AS since, a.state
     FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE ${holdsLock}`,
    [lockId],
  );
  // Since the attempt to lock, the holder may have ended or released the lock.
  return rows[0] ? describeSession(rows[0]) : 'a session that ended just now';
}

export interface SessionFacts {
  pid: number;
  application: string;
  address: string | null;
  /** Null where the role may not see other roles' sessions. */
  since: Date | null;
  state: string | null;
}

/** Formats a session: `pid 4711 (psql from 10.0.0.5, idle in transaction since 2026-01-02T03:04:05Z)`. */
export function describeSession({ pid, application, address, since, state }: SessionFacts): string {
  const from = address ? ` from ${address}` : '';
  const when = state && since ? `, ${state} since ${since.toISOString().slice(0, 19)}Z` : '';
  return `pid ${pid} (${application || 'no application name'}${from}${when})`;
}

// coalesce: on the embedded tracking server, pg_locks has no pid and pg_backend_pid() is 0.
const mine = 'coalesce(l.pid, 0) = pg_backend_pid()';

/** @throws MigrationError if the lock is lost, because a proxy or postgres.js uses another connection. */
export async function assertLocked(session: Database): Promise<void> {
  const { rowCount } = await session.query(`SELECT 1 FROM pg_locks l WHERE ${holdsLock} AND ${mine}`, [
    lockId,
  ]);
  if (rowCount === 1) return;
  throw new MigrationError(
    `The migration lock of ${session.name} is lost: the connection broke, or a proxy shares it. Run the command again, on the server's own URL.`,
    { database: session.target ?? session.name },
  );
}

export interface SessionTimeouts {
  /** How long one statement waits for a lock, in milliseconds. Default 5,000; 0 waits forever. */
  lockTimeoutMs?: number | undefined;
  /** How long one statement may take, in milliseconds. Default 0: no limit. */
  statementTimeoutMs?: number | undefined;
}

/**
 * Resets what a file may have left in the session, and sets the timeouts for the next file. DISCARD ALL is not used,
 * because it releases the lock. Timeouts that the database sets for applications are disabled.
 */
export async function prepareSession(
  session: Database,
  { lockTimeoutMs = 5000, statementTimeoutMs = 0 }: SessionTimeouts,
): Promise<void> {
  await resetSession(session);
  await session.query(
    `SELECT pg_catalog.set_config(name, CASE name WHEN 'lock_timeout' THEN $1 WHEN 'statement_timeout' THEN $2 ELSE '0' END, false)
     FROM pg_catalog.pg_settings WHERE name = ANY ($3)`,
    [String(lockTimeoutMs), String(statementTimeoutMs), ['lock_timeout', ...endingTimeouts]],
  );
}

export async function resetSession(session: Database): Promise<void> {
  await session.query(
    'RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES',
  );
}

/**
 * Runs `work` between BEGIN and COMMIT on the single connection of a migration session. `withTransaction` is not used,
 * because `work` sends its statements to `session` and not to a `Transaction`.
 */
export async function inTransaction(session: Database, work: () => Promise<void>): Promise<void> {
  await session.query('BEGIN');
  try {
    await work();
    await session.query('COMMIT');
  } catch (error) {
    await session.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
