// Restores a dump into an empty database, then reads the database's contents for the comparison.

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { DatabaseTarget } from '../../../src/databases.ts';
import { parseDatabaseUrl } from '../../../src/driver/database-url.ts';
import { createDatabasePool, type Pool } from '../../../src/pool.ts';
import { withCatalogPath } from '../../../src/sql/catalog-path.ts';
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import { startWorkers, stopWorkers, takeJobs } from '../../../src/timescale/catalog.ts';
import { withTransaction } from '../../../src/transaction.ts';
import { catalogOnly, withSettings } from '../../cli/pools.ts';
import { libpqEnvironment } from '../client/environment.ts';
import { runClientProgram } from '../client/run.ts';
import type { ClientPrograms } from '../client/versions.ts';
import { type Contents, fixSession, readContents, readTables } from '../contents.ts';
import { applyProperties, quoteLiteral } from '../database-properties.ts';
import type { DatabaseBackup } from '../library/manifest.ts';

export interface FillOptions {
  /** Folder of the backup. */
  readonly folder: string;
  readonly programs: ClientPrograms;
  readonly withRoles: boolean;
  readonly jobs?: number | undefined;
  readonly signal: AbortSignal;
}

/** Runs pg_restore, with TimescaleDB's steps before and after if the backup has it. Then applies the properties. */
export async function fillDatabase(url: string, backup: DatabaseBackup, options: FillOptions): Promise<void> {
  const timescale = backup.extensions.find(({ name }) => name === 'timescaledb');
  if (timescale) {
    await inSession(url, async (pool) => {
      await pool.query(
        `CREATE EXTENSION timescaledb VERSION ${quoteLiteral(timescale.version)} SCHEMA public CASCADE`,
      );
      await pool.query('SELECT public.timescaledb_pre_restore()');
    });
  }
  const restore = () => runPgRestore(url, backup, options, timescale !== undefined);
  await (timescale && !options.withRoles ? withOwnersOfJobs(url, backup.roles, restore) : restore());
  if (timescale) await inSession(url, finishTimescale);
  await inSession(url, async (pool) => {
    // A dump has no statistics for the planner.
    await pool.query('ANALYZE');
    await applyProperties(pool, backup.properties, options);
  });
}

/**
 * Creates the missing `roles` only for the time of `restore`: TimescaleDB's catalog names the owners of jobs, and COPY
 * refuses a role that does not exist. Afterwards, the jobs belong to the connecting role.
 */
async function withOwnersOfJobs(
  url: string,
  roles: readonly string[],
  restore: () => Promise<void>,
): Promise<void> {
  const made = await inSession(url, async (pool) => {
    const { rows } = await pool.query<{ name: string }>(
      'SELECT name FROM unnest($1::text[]) AS name EXCEPT SELECT rolname FROM pg_roles',
      [roles],
    );
    for (const { name } of rows) await pool.query(`CREATE ROLE ${quoteIdentifier(name)}`);
    return rows.map(({ name }) => quoteIdentifier(name));
  });
  try {
    await restore();
  } finally {
    await inSession(url, async (pool) => {
      await takeJobs(pool);
      if (made.length > 0) await pool.query(`DROP ROLE ${made.join(', ')}`);
    });
  }
}

/** Reads the contents of the restored database in the same way as a backup. */
export async function readRestored(
  url: string,
  key: DatabaseTarget,
  { holds, signal }: { holds: DatabaseBackup['holds']; signal: AbortSignal },
): Promise<Contents> {
  return inSession(url, (pool) =>
    withCatalogPath(
      pool,
      async (transaction) => {
        await fixSession(transaction);
        const tables = await readTables(transaction);
        const counted = holds === 'everything' ? tables : tables.filter(({ schema }) => schema === 'drizzle');
        return readContents(transaction, key, counted, signal);
      },
      { isolation: 'repeatable read', readOnly: true },
    ),
  );
}

// Jobs would refresh, compress and drop data before the comparison. The scheduler would start when this transaction
// commits, so the transaction also stops it. `startJobs` starts the scheduler when the database is kept.
async function finishTimescale(pool: Pool): Promise<void> {
  await withTransaction(pool, async (transaction) => {
    await transaction.query('SELECT public.timescaledb_post_restore()');
    await transaction.query(stopWorkers);
  });
}

async function runPgRestore(
  url: string,
  backup: DatabaseBackup,
  { folder, programs, withRoles, jobs, signal }: FillOptions,
  serial: boolean,
): Promise<void> {
  const target = parseDatabaseUrl(url, 'the database beside');
  await runClientProgram(
    join(programs.folder, 'pg_restore'),
    [
      // A conninfo string, because a bare name that contains "=" would be parsed as such a string.
      `--dbname=dbname='${target.database.replace(/['\\]/g, '\\$&')}'`,
      '--exit-on-error',
      '--no-password',
      // According to TimescaleDB's documentation, parallel jobs do not restore its catalog correctly.
      `--jobs=${serial ? 1 : jobs || availableParallelism()}`,
      ...(withRoles ? [] : ['--no-owner', '--no-privileges']),
      join(folder, backup.dump.name),
    ],
    { environment: libpqEnvironment(target), signal },
  );
}

/** Starts TimescaleDB's jobs again. Call it when the restored database is kept. */
export async function startJobs(url: string, { extensions }: DatabaseBackup): Promise<void> {
  if (!extensions.some(({ name }) => name === 'timescaledb')) return;
  await inSession(url, (pool) => pool.query(startWorkers));
}

export async function inSession<Result>(url: string, work: (pool: Pool) => Promise<Result>): Promise<Result> {
  // Restored functions could shadow PostgreSQL's own.
  const connectionString = withSettings(url, catalogOnly);
  await using pool = createDatabasePool({ connectionString, applicationName: 'atriz-db', max: 1 });
  return await work(pool);
}
