// Migrated databases that are made once for a run, and cloned for each test file.
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseKey } from '../../src/databases.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { sqlState } from '../../src/errors.ts';
import { migrate } from '../../src/migrations/index.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { stopWorkers } from '../../src/timescale/catalog.ts';
import type { TestServer } from './server.ts';

/** What is in template1 of a server, such as TimescaleDB in the official image, is not in databases of tests. */
export const pristine = "TEMPLATE template0 ENCODING 'UTF8'";

/** @param url any database of the server that is to hold the template. */
export async function createTemplate(
  key: DatabaseKey,
  name: string,
  url: string,
  { capabilities }: Pick<TestServer, 'capabilities'>,
): Promise<void> {
  const isNative = capabilities.includes('background-workers');
  await using maintenance = createDatabasePool({ connectionString: url, max: 1 });
  await maintenance.query(`CREATE DATABASE "${name}" ${pristine}`);
  {
    await using pool = createDatabasePool({ connectionString: withDatabase(url, name) });
    await migrate(pool, key);
    if (isNative) await switchOffPolicies(pool);
  }
  // TimescaleDB's launcher connects to every database now and then, and only an unused one can be cloned.
  if (!isNative) return;
  await maintenance.query(`ALTER DATABASE "${name}" ALLOW_CONNECTIONS false`);
  await maintenance.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [
    name,
  ]);
}

/** Tests run the jobs when it suits them; background workers would run them at any moment. Stops those that run. */
export async function switchOffPolicies(pool: Pool): Promise<void> {
  const { rowCount } = await pool.query("SELECT FROM pg_extension WHERE extname = 'timescaledb'");
  if (rowCount === 0) return;
  await pool.query(
    'SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL',
  );
  // A job that began before alter_job is cancelled by it: no clone must inherit that failure.
  await pool.query(stopWorkers);
  await pool.query('DELETE FROM _timescaledb_internal.bgw_job_stat');
  await pool.query('DELETE FROM _timescaledb_internal.bgw_job_stat_history');
}

/** Another clone of the same template does not get in the way, a worker that ends there at this moment does. */
export async function cloneTemplate(maintenance: Pool, template: string, name: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await maintenance.query(`CREATE DATABASE "${name}" TEMPLATE "${template}"`);
      return;
    } catch (error) {
      // 55006 object_in_use
      if (sqlState(error) !== '55006' || attempt === 20) throw error;
      await sleep(100);
    }
  }
}
