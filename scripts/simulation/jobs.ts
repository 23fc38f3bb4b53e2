// Runs TimescaleDB's policies, for servers without background workers and for demonstrations.
import type { Pool } from '../../src/pool.ts';
import { policyJobs } from '../../src/timescale/catalog.ts';
import { runJob } from '../embedded/jobs.ts';

type Policy = 'compression' | 'refresh_continuous_aggregate' | 'retention';

/** Runs every policy of these kinds once, in this order. */
export async function runPolicies(pool: Pool, policies: readonly Policy[]): Promise<void> {
  for (const policy of policies) {
    const { rows } = await pool.query<{ job_id: number }>(
      `SELECT job_id FROM ${policyJobs} AS j WHERE proc_name = $1 ORDER BY job_id`,
      [`policy_${policy}`],
    );
    for (const { job_id } of rows) await runJob(pool, job_id);
  }
}
