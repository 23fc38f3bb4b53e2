// Uses another connection to find the session that blocks a migration.
import type { Database, Pool } from '../pool.ts';
import { describeSession, type SessionFacts } from './session.ts';

export interface BlockerWatch {
  /** The last blocking session that was seen, in this attempt or an earlier one. */
  last(): string | undefined;
  stop(): void;
}

/** Looks for a blocking session, several times per lock timeout. Most migrations end before the first look. */
export async function watchBlockers(
  pool: Pool,
  session: Database,
  lockTimeoutMs: number,
): Promise<BlockerWatch> {
  const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const pid = rows[0]?.pid;
  let last: string | undefined;
  let looking = false;
  const look = async () => {
    if (looking) return;
    looking = true;
    try {
      last = (await findBlocker(pool, pid)) ?? last;
    } catch {
      // Ignore a failed check: the error of the migration itself is reported.
    } finally {
      looking = false;
    }
  };
  const timer = setInterval(look, Math.min(500, Math.max(lockTimeoutMs / 4, 50)));
  timer.unref();
  return { last: () => last, stop: () => clearInterval(timer) };
}

async function findBlocker(pool: Pool, pid: number | undefined): Promise<string | undefined> {
  const { rows } = await pool.query<SessionFacts>(
    `SELECT pid, application_name AS application, client_addr::text AS address, coalesce(xact_start, state_change) AS since, state
     FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1)) ORDER BY xact_start LIMIT 1`,
    [pid],
  );
  return rows[0] && describeSession(rows[0]);
}
