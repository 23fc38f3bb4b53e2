// create: creates the databases that do not exist yet, with their roles and grants.
import type { Command } from 'commander';
import { databaseUrl } from '../../src/config.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { ConnectionError, sqlState } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { queryCatalog } from '../../src/sql/catalog-path.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { selectTargets } from '../../src/targets.ts';
import {
  accessNotApplied,
  applyMatrix,
  applyToNewObjects,
  isAccessApplied,
  printRefused,
} from '../access/environment.ts';
import { printJson } from '../cli/output.ts';
import { catalogOnly, pristine, withMaintenance, withPool } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';

export function registerCreate(program: Command): void {
  saysWhere(program.command('create'))
    .description('create the databases that do not exist yet')
    .argument('[database...]', 'which; default: all')
    .option('--no-access', "make no roles, and leave PostgreSQL's own grants")
    .option('--json', 'print JSON')
    .action(async (names: string[], { json, access }: { json?: boolean; access: boolean }) => {
      const results = [];
      for (const key of selectTargets(names)) {
        const created = await createDatabase(key, { access });
        results.push({ key, database: databaseName(key), created });
        if (!json) console.log(`${databaseName(key)} ${created ? 'created' : 'exists already'}`);
      }
      if (json) printJson(results);
      else if (access && results.some(({ created }) => created)) {
        console.log(
          'Roles: "npm run db:access -- show" says what they may do, "… apply" gives them passwords.',
        );
      }
    });
}

/** The database name in the URL. It may differ from the name in the registry, e.g. on a shared server. */
export const databaseName = (key: DatabaseTarget): string => {
  const { url, origin } = databaseUrl(key);
  return parseDatabaseUrl(url, origin).database;
};

/**
 * Creates one database if it is missing, with roles and grants unless `access` is false. Also finishes a
 * database whose creation was interrupted.
 * @returns whether this call created it.
 */
export async function createDatabase(key: DatabaseTarget, { access }: { access: boolean }): Promise<boolean> {
  // `exists` connects to the database itself, so it needs no access to the maintenance database.
  const created = !(await exists(key)) && (await createEmpty(key));
  await withPool(
    key,
    async (pool) => {
      if (created || (await isHalfMade(pool))) await finish(pool, key, access);
      else if (access && !(await isAccessApplied(pool, key))) console.error(accessNotApplied(key));
    },
    catalogOnly,
  );
  return created;
}

// The comment on a database from its creation until the last step of `finish`.
const halfMade = 'Being created. "npm run db:create" finishes it.';

async function createEmpty(key: DatabaseTarget): Promise<boolean> {
  const name = quoteIdentifier(databaseName(key));
  try {
    await withMaintenance(key, async (pool) => {
      await pool.query(`CREATE DATABASE ${name} ${pristine}`);
      await pool.query(`COMMENT ON DATABASE ${name} IS '${halfMade}'`);
    });
    return true;
  } catch (error) {
    // 42P04 duplicate_database: another process created it in the meantime.
    if (sqlState(error) === '42P04') return false;
    throw error;
  }
}

async function isHalfMade(pool: Pool): Promise<boolean> {
  const { rowCount } = await queryCatalog(
    pool,
    `SELECT FROM pg_database WHERE datname = current_database() AND shobj_description(oid, 'pg_database') = $1`,
    [halfMade],
  );
  return rowCount > 0;
}

async function finish(pool: Pool, key: DatabaseTarget, access: boolean): Promise<void> {
  const name = quoteIdentifier(databaseName(key));
  await pool.query(`ALTER DATABASE ${name} SET timezone TO 'UTC'`);
  if (access) printRefused(key, await applyMatrix(pool, key));
  const { holds } = definitionOf(key);
  await pool.query(`COMMENT ON DATABASE ${name} IS '${holds.replaceAll("'", "''")}'`);
}

/** Applies the matrix to new objects after migrations. If it was never applied, only prints a message. */
export async function reapplyAccess(pool: Pool, key: DatabaseTarget): Promise<void> {
  if (await isAccessApplied(pool, key)) printRefused(key, await applyToNewObjects(pool, key));
  else console.error(accessNotApplied(key));
}

/** Whether the database exists without the access matrix. `reset` then creates it again without the matrix. */
export async function lacksAccess(key: DatabaseTarget): Promise<boolean> {
  return (await exists(key)) && !(await withPool(key, (pool) => isAccessApplied(pool, key), catalogOnly));
}

export async function exists(key: DatabaseTarget): Promise<boolean> {
  try {
    await withPool(key, (pool) => pool.query('SELECT 1'), catalogOnly);
    return true;
  } catch (error) {
    if (error instanceof ConnectionError && error.code === '3D000') return false;
    throw error;
  }
}
