// The tracking tables on a server with many sessions, for tests that need no chunks.
import { createPlainTracking } from '../../scripts/simulation/plain-tracking.ts';
import type { DatabasePoolOptions } from '../../src/pool.ts';
import { emptyDatabase, openPool } from './database.ts';

/** The tracking tables without TimescaleDB, on the server of the applications. */
export async function plainTracking(options: DatabasePoolOptions = {}) {
  const url = await emptyDatabase('atriz');
  const db = openPool('tracking', url, options);
  await createPlainTracking(db);
  return { db, url };
}
