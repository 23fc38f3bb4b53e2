// create: makes the databases that do not exist yet.
import type { Command } from 'commander';
import { type Applied, applyAccess } from '../../src/access/apply.ts';
import { databaseUrl, selectDatabases } from '../../src/config.ts';
import { parseDatabaseUrl } from '../../src/database-url.ts';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { ConnectionError, sqlState } from '../../src/errors.ts';
import { quoteIdentifier } from '../../src/identifiers.ts';
import type { Pool } from '../../src/pool.ts';
import { applyMatrix, describeRefused, isArranged, matrixOf } from '../access.ts';
import { printJson } from '../output.ts';
import { withMaintenance, withPool } from '../session.ts';

export function registerCreate(program: Command): void {
  program
    .command('create')
    .description('create the databases that do not exist yet')
    .argument('[database...]', 'which; default: all')
    .option('--no-access', "make no roles, and leave PostgreSQL's own grants")
    .option('--json', 'print JSON')
    .action(async (names: string[], { json, access }: { json?: boolean; access: boolean }) => {
      const results = [];
      for (const key of selectDatabases(names)) {
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

/** The name that the URL says: it may differ from the registry's, e.g. on a shared server. */
export const databaseName = (key: DatabaseKey): string => {
  const { url, origin } = databaseUrl(key);
  return parseDatabaseUrl(url, origin).database;
};

/** Creates one database where it is missing, with roles and grants unless `access` is false. @returns whether it was missing. */
export async function createDatabase(key: DatabaseKey, { access }: { access: boolean }): Promise<boolean> {
  // Asking the database itself needs no right to look into the maintenance database.
  if (await exists(key)) return false;
  const name = quoteIdentifier(databaseName(key));
  try {
    await withMaintenance(key, (pool) => pool.query(`CREATE DATABASE ${name} ENCODING 'UTF8'`));
  } catch (error) {
    // 42P04 duplicate_database: another process was faster.
    if (sqlState(error) === '42P04') return false;
    throw error;
  }
  await withPool(key, async (pool) => {
    await pool.query(`ALTER DATABASE ${name} SET timezone TO 'UTC'`);
    const { holds } = definitionOf(key);
    await pool.query(`COMMENT ON DATABASE ${name} IS '${holds.replaceAll("'", "''")}'`);
    if (access) tellRefused(key, await applyMatrix(pool, key));
  });
  return true;
}

/** After migrations: what they made gets its owner and its grants, where the matrix was applied before. */
export async function arrangeAgain(pool: Pool, key: DatabaseKey): Promise<void> {
  // No passwords: who migrates as the owner may not set those of the others.
  if (await isArranged(pool, key)) tellRefused(key, await applyAccess(pool, matrixOf(key)));
}

/** Without the right to apply the matrix, the database is there all the same: told, not failed. */
function tellRefused(key: DatabaseKey, applied: Applied): void {
  const refused = describeRefused(key, applied);
  if (refused) console.error(refused);
}

/** Whether a database that exists was left out of the matrix, so that a new one in its place should be. */
export async function isUnarranged(key: DatabaseKey): Promise<boolean> {
  return (await exists(key)) && !(await withPool(key, (pool) => isArranged(pool, key)));
}

async function exists(key: DatabaseKey): Promise<boolean> {
  try {
    await withPool(key, (pool) => pool.query('SELECT 1'));
    return true;
  } catch (error) {
    if (error instanceof ConnectionError && error.code === '3D000') return false;
    throw error;
  }
}

/** Drops one database with everything in it, ending the sessions that use it. */
export async function dropDatabase(key: DatabaseKey): Promise<void> {
  const name = quoteIdentifier(databaseName(key));
  await withMaintenance(key, (pool) => pool.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
}
