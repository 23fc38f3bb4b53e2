// Runs TimescaleDB's policies when they are due, because the embedded server has no background workers.
import { setTimeout as sleep } from 'node:timers/promises';
import { sqlState } from '../../src/errors.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { hasWorkers } from '../../src/timescale/catalog.ts';

interface JobRunnerOptions {
  /** How often to check for due jobs, in milliseconds. Default 60,000. */
  interval?: number;
  onError: (job: string, error: Error) => void;
}

interface Job {
  id: number;
  name: string;
  intervalMs: number;
}

/**
 * Checks for due jobs until the returned function is called. If the database does not exist, checks again after
 * `interval`; if it is not migrated, after 30 minutes.
 */
export function startJobs(
  url: string,
  { interval = 60_000, onError }: JobRunnerOptions,
): () => Promise<void> {
  const stopping = new AbortController();
  const { signal } = stopping;
  const lastRuns = new Map<number, number>();
  let nextCheck = 0;

  const runDueJobs = async () => {
    // Opening the database takes memory, so do it only when a job may be due.
    if (Date.now() < nextCheck) return;
    await using pool = createDatabasePool({ connectionString: url, max: 1, applicationName: 'atriz jobs' });
    const jobs = await readJobs(pool);
    for (const job of jobs) {
      if (signal.aborted) return;
      if (Date.now() < (lastRuns.get(job.id) ?? 0) + job.intervalMs) continue;
      lastRuns.set(job.id, Date.now());
      await runJob(pool, job.id).catch((error: Error) => onError(job.name, error));
    }
    nextCheck = Math.min(
      ...jobs.map(({ id, intervalMs }) => (lastRuns.get(id) ?? 0) + intervalMs),
      Date.now() + 30 * 60_000,
    );
  };

  const running = (async () => {
    while (!signal.aborted) {
      await runDueJobs().catch(() => undefined);
      await sleep(interval, undefined, { signal }).catch(() => undefined);
    }
  })();
  return async () => {
    stopping.abort();
    await running;
  };
}

/** Runs a job now. Records the run if no scheduler does so and the role may write to bgw_job_stat. */
export async function runJob(pool: Pool, id: number): Promise<void> {
  const start = new Date();
  // The id is not a parameter: jobs commit, and some servers let CALL commit only in the simple query protocol.
  await pool.query(`CALL run_job(${Number(id)})`);
  const { rows } = await pool.query<{ isDue: boolean }>(
    `SELECT NOT (${hasWorkers}) AND has_table_privilege('_timescaledb_internal.bgw_job_stat', 'INSERT, UPDATE') AS "isDue"`,
  );
  if (!rows[0]?.isDue) return;
  await pool.query(
    `INSERT INTO _timescaledb_internal.bgw_job_stat AS s (job_id, last_start, last_finish, next_start,
       last_successful_finish, last_run_success, total_runs, total_duration, total_duration_failures, total_successes,
       total_failures, total_crashes, consecutive_failures, consecutive_crashes)
     SELECT job_id, $2, now(), now() + schedule_interval, now(), true, 1, now() - $2, '0', 1, 0, 0, 0, 0
     FROM timescaledb_information.jobs WHERE job_id = $1
     ON CONFLICT (job_id) DO UPDATE SET last_start = excluded.last_start, last_finish = excluded.last_finish,
       next_start = excluded.next_start, last_successful_finish = excluded.last_finish, last_run_success = true,
       total_runs = s.total_runs + 1, total_successes = s.total_successes + 1,
       total_duration = s.total_duration + excluded.total_duration`,
    [id, start],
  );
}

async function readJobs(pool: Pool): Promise<Job[]> {
  try {
    const { rows } = await pool.query<Job>(
      `SELECT job_id AS id, proc_name || ' on ' || hypertable_name AS name, extract(epoch FROM schedule_interval)::float8 * 1000 AS "intervalMs"
       FROM timescaledb_information.jobs WHERE scheduled AND hypertable_name IS NOT NULL
       ORDER BY proc_name = 'policy_retention', job_id`,
    );
    return rows;
  } catch (error) {
    // undefined_table, invalid_schema_name: not migrated yet.
    if (['42P01', '3F000'].includes(sqlState(error) ?? '')) return [];
    throw error;
  }
}
