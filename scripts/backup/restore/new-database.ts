// Creates a separate database to restore a backup into, and drops the leftovers of killed restores.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { databaseUrl } from '../../../src/config.ts';
import type { DatabaseTarget } from '../../../src/databases.ts';
import { withDatabase } from '../../../src/driver/database-url.ts';
import { sqlState } from '../../../src/errors.ts';
import { createDatabasePool, type Database, type Pool } from '../../../src/pool.ts';
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import { catalogOnly, dropDatabase, withSettings } from '../../cli/pools.ts';
import { createStatement, quoteLiteral } from '../database-properties.ts';
import type { DatabaseProperties } from '../library/manifest.ts';

/** Database setting that marks an unfinished restore; the swap removes it. */
export const unfinishedRestore = 'atriz.unfinished_restore';

export interface NewDatabase {
  readonly name: string;
  readonly url: string;
  /** Drops the database and ends its sessions. */
  drop(): Promise<void>;
}

/** A connection to the server's maintenance database that is kept open, because it holds locks. */
export function openMaintenance(key: DatabaseTarget): Pool {
  return createDatabasePool({
    connectionString: withSettings(withDatabase(databaseUrl(key).url, 'postgres'), catalogOnly),
    applicationName: 'atriz-db',
    max: 1,
    idleTimeoutMs: 0,
    maxLifetimeMs: 0,
  });
}

/**
 * Creates `<name>_restore_<random>`. Before that, `maintenance` locks the name, so that other restores do not drop the
 * database as a leftover. The new database allows connections once it is marked as unfinished.
 */
export async function createNewDatabase(
  key: DatabaseTarget,
  maintenance: Pool,
  name: string,
  properties: DatabaseProperties,
  onWarning: (text: string) => void,
): Promise<NewDatabase> {
  await dropLeftovers(maintenance, name);
  const beside = shortenName(name, `_restore_${randomBytes(4).toString('hex')}`);
  await maintenance.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [lockName(beside)]);
  try {
    await maintenance.query(createStatement(beside, properties));
  } catch (error) {
    // The server does not have the locale, for example because of another operating system. With the server's own
    // locale, only the sort order of texts may differ.
    if (!['22023', '42704', '42809'].includes(sqlState(error) ?? '')) throw error;
    await maintenance.query(
      `CREATE DATABASE ${quoteIdentifier(beside)} TEMPLATE template0 ALLOW_CONNECTIONS false ENCODING ${quoteLiteral(properties.encoding)}`,
    );
    onWarning(
      `The server does not know the locale of the backup, ${properties.locale ?? properties.collate}: its own is used, and texts may sort differently.`,
    );
  }
  await maintenance.query(`ALTER DATABASE ${quoteIdentifier(beside)} SET ${unfinishedRestore} TO 'yes'`);
  await maintenance.query(`ALTER DATABASE ${quoteIdentifier(beside)} ALLOW_CONNECTIONS true`);
  return {
    name: beside,
    url: withDatabase(databaseUrl(key).url, beside),
    drop: () => dropDatabase(maintenance, beside),
  };
}

/** `name` with `suffix`; shortens `name` so that PostgreSQL's limit of 63 bytes does not cut the suffix. */
export function shortenName(name: string, suffix: string): string {
  let head = name;
  while (Buffer.byteLength(head + suffix) > 63) head = [...head].slice(0, -1).join('');
  return head + suffix;
}

/** Name of a database that a restore replaced and kept. */
export const keptName = (name: string, moment: Date): string =>
  shortenName(name, `_before_${moment.toISOString().replace(/[-:]|\.\d+Z/g, '')}`);

/** Sorted names of the databases that restores of `name` kept, or that killed restores left behind. */
export async function readKeptDatabases(db: Database, name: string): Promise<string[]> {
  const { rows } = await db.primary.query<{ name: string }>(
    `SELECT datname AS name FROM pg_catalog.pg_database
     WHERE (pg_catalog.starts_with(datname, $1) AND datname OPERATOR(pg_catalog.~) '_before_[0-9]{8}T[0-9]{6}$')
       OR (pg_catalog.starts_with(datname, $2) AND datname OPERATOR(pg_catalog.~) '_restore_[0-9a-f]{8}$')
     ORDER BY datname`,
    [
      shortenName(name, '_before_00000000T000000').slice(0, -'00000000T000000'.length),
      shortenName(name, '_restore_00000000').slice(0, -8),
    ],
  );
  return rows.map((row) => row.name);
}

const lockName = (name: string) => `atriz-db restore ${name}`;

async function dropLeftovers(maintenance: Pool, name: string): Promise<void> {
  const head = shortenName(name, '_restore_00000000').slice(0, -8);
  // A restore that was killed before it set the mark leaves a database that allows no connections.
  const { rows } = await maintenance.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
     WHERE starts_with(datname, $1) AND datname ~ '_restore_[0-9a-f]{8}$'
       AND (NOT datallowconn OR $2 = ANY (s.setconfig))`,
    [head, `${unfinishedRestore}=yes`],
  );
  for (const { name } of rows) {
    if (!(await isAbandoned(maintenance, name))) continue;
    await dropDatabase(maintenance, name);
    await maintenance.query('SELECT pg_advisory_unlock(hashtextextended($1, 0))', [lockName(name)]);
  }
}

/** Locks the name, unless another restore has locked it. The server may need a moment to notice a killed client. */
async function isAbandoned(maintenance: Pool, name: string): Promise<boolean> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const { rows } = await maintenance.query<{ locked: boolean }>(
      'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS locked',
      [lockName(name)],
    );
    if (rows[0]?.locked) return true;
    await sleep(100);
  }
  return false;
}
