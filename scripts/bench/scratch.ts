// Creates scratch databases for the benchmarks, and runs our command line on them.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/config.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { migrate } from '../../src/migrations/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { createDatabasePool, type Pool, type PoolOf } from '../../src/pool.ts';
import { urlSettings } from '../../src/targets.ts';
import { readTimescale } from '../../src/timescale/catalog.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { createPlainTracking } from '../simulation/plain-tracking.ts';

export interface Scratch {
  readonly key: DatabaseKey;
  readonly url: string;
}

/** Returns a unique name that contains `what`, so that the leftovers of a killed run can be recognised. */
export const scratchName = (what: string): string => `atriz_bench_${what}_${randomBytes(4).toString('hex')}`;

/** Runs `work` with a new database for each key, and always drops the databases afterwards. */
export async function withScratchDatabases<Result>(
  keys: readonly DatabaseKey[],
  work: (scratch: readonly Scratch[]) => Promise<Result>,
  made: readonly Scratch[] = [],
): Promise<Result> {
  const [key, ...rest] = keys;
  if (key === undefined) return work(made);
  return withScratchDatabase(key, scratchName(key), (_, url) =>
    withScratchDatabases(rest, work, [...made, { key, url }]),
  );
}

export interface TrackingScratch {
  readonly db: PoolOf<'tracking'>;
  readonly url: string;
  /** A sentence with the versions of PostgreSQL and TimescaleDB. */
  readonly description: string;
}

/**
 * Runs `work` with a new tracking database, without hypertables if the server lacks TimescaleDB.
 * @param server URL of any database of the server; by default the configured URL of tracking.
 */
export function withScratchTracking(
  what: string,
  server: string | undefined,
  work: (scratch: TrackingScratch) => Promise<void>,
): Promise<void> {
  const prepared = async (_: Pool, url: string) => {
    await using db = createDatabasePool({ key: 'tracking', connectionString: url, max: 4 });
    const description = await prepareTracking(db);
    await work({ db, url, description });
  };
  return withScratchDatabase('tracking', scratchName(what), prepared, server);
}

/** Creates the tables. @returns a description of the server. */
async function prepareTracking(db: Pool): Promise<string> {
  const { rows } = await db.query<{ version: string; timescaledb: boolean }>(
    `SELECT current_setting('server_version') AS version,
      EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') AS timescaledb`,
  );
  const [server] = rows;
  if (!server?.timescaledb) {
    await createPlainTracking(db);
    return `PostgreSQL ${server?.version}, without TimescaleDB: same columns and indexes, no hypertable.`;
  }
  await migrate(db, 'tracking');
  return `PostgreSQL ${server.version} with TimescaleDB ${(await readTimescale(db))?.version}.`;
}

export const run = promisify(execFile);

/** Compiles our command line in the same way as for publishing. */
export async function buildCommandLine(): Promise<void> {
  const tsc = join(packageRoot(), 'node_modules', '.bin', 'tsc');
  await run(tsc, ['-p', join(packageRoot(), 'tsconfig.build.json')]);
}

/** Runs our compiled command line on the scratch databases. */
export async function runCommandLine(
  scratch: readonly Scratch[],
  command: string,
  options: readonly string[] = [],
): Promise<void> {
  const cli = join(packageRoot(), 'dist', 'scripts', 'db.js');
  const keys = scratch.map(({ key }) => key);
  await run(process.execPath, [cli, command, ...keys, ...options], {
    env: childEnvironment(urlSettings(scratch)),
  });
}
