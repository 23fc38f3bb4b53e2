// Opens small pools for commands and closes them; creates and drops scratch databases.

import { setTimeout as sleep } from 'node:timers/promises';
import type { AppSource } from '../../schema/tracking.ts';
import { databaseUrl } from '../../src/config.ts';
import {
  applicationOf,
  type DatabaseTarget,
  databases,
  definitionOf,
  keyOf,
  targetOf,
} from '../../src/databases.ts';
import { isProxied } from '../../src/driver/client-options.ts';
import { parseDatabaseUrl, withDatabase } from '../../src/driver/database-url.ts';
import { ConfigurationError, ConnectionError, sqlState } from '../../src/errors.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { selectTargets } from '../../src/targets.ts';
import { onSignal } from './signals.ts';

/** Settings with which a session starts, e.g. `{ search_path: 'pg_catalog' }`. */
type Settings = Readonly<Record<string, string>>;

/**
 * For sessions whose statements cannot run inside `withCatalogPath`. Without this setting, the search_path that the
 * owner of the database has set would apply, and could put the owner's functions before PostgreSQL's.
 */
export const catalogOnly: Settings = { search_path: 'pg_catalog, pg_temp' };

/** Runs `work` with a pool of one database, and always closes the pool afterwards. */
export async function withPool<Result>(
  key: DatabaseTarget,
  work: (pool: Pool) => Promise<Result>,
  settings?: Settings,
): Promise<Result> {
  const { url, origin } = databaseUrl(key);
  await using pool = createDatabasePool({
    ...(settings && { connectionString: withSettings(url, settings, origin) }),
    key: keyOf(key),
    source: databases.tracking.sources.find((source) => source === applicationOf(key)),
    schema: definitionOf(key).schema,
    applicationName: 'atriz-db',
    max: 2,
  });
  return await work(pool);
}

/**
 * Selects the tracking database of an application: its own or the shared one.
 * @throws ConfigurationError if there are several tracking databases and no application is given.
 */
export function trackingOf(application: AppSource | undefined): DatabaseTarget {
  const [only, ...others] = selectTargets(['tracking']);
  if (only && others.length === 0) return only;
  if (application !== undefined) return targetOf('tracking', application);
  throw new ConfigurationError(
    `There are several tracking databases, ${[only, ...others].join(', ')}: add --app to say whose locations are meant.`,
  );
}

/** Runs `work` with one pool for each database, and always closes the pools afterwards. */
export async function withPools<Key extends DatabaseTarget, Result>(
  keys: readonly Key[],
  work: (pools: Readonly<Record<Key, Pool>>) => Promise<Result>,
  settings?: Settings,
  open: Partial<Record<Key, Pool>> = {},
): Promise<Result> {
  const [key, ...rest] = keys;
  if (key === undefined) return work(open as Record<Key, Pool>);
  return withPool(key, (pool) => withPools(rest, work, settings, { ...open, [key]: pool }), settings);
}

/** Adds settings to the URL as parameters, except behind a proxy, which refuses settings that it does not track. */
export function withSettings(url: string, settings: Settings, origin = 'the URL'): string {
  if (isProxied({}, parseDatabaseUrl(url, origin))) return url;
  const parameters = Object.entries(settings).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `${url}${url.includes('?') ? '&' : '?'}${parameters.join('&')}`;
}

/**
 * Runs `work` on the server's database `postgres`, from which databases are created and dropped.
 * @param server URL of any database of the server; by default the configured URL of `key`.
 * @throws ConnectionError that names the database of `key`.
 */
export async function withMaintenance<Result>(
  key: DatabaseTarget,
  work: (pool: Pool) => Promise<Result>,
  server = databaseUrl(key).url,
): Promise<Result> {
  await using pool = createDatabasePool({
    connectionString: withDatabase(server, 'postgres'),
    applicationName: 'atriz-db',
    max: 1,
  });
  try {
    return await work(pool);
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    // All servers have a database "postgres", so the message names the database of `key` too.
    throw new ConnectionError(
      `The server of ${definitionOf(key).database} (${databaseUrl(key).origin}): ${error.message}`,
      {
        database: definitionOf(key).database,
        code: error.code,
        cause: error,
      },
    );
  }
}

/**
 * Options of CREATE DATABASE for a database with only PostgreSQL's own objects. template1 may have others: in the
 * official image of TimescaleDB it has the extension, whose jobs would then run in every database.
 */
export const pristine = "TEMPLATE template0 ENCODING 'UTF8'";

/** Drops a database and ends its sessions. Tries again if a session outlives the 5 s for which the server waits. */
export async function dropDatabase(maintenance: Pool, name: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await maintenance.query(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
      return;
    } catch (error) {
      // 55006: a session has not ended yet. 42501: this role may not end a background worker of TimescaleDB, which
      // visits each database for a moment.
      if (!['55006', '42501'].includes(sqlState(error) ?? '') || attempt === 10) throw error;
      await sleep(200);
    }
  }
}

/** Runs `work` in a new database on `server`, and always drops the database afterwards, even after Ctrl-C. */
export function withScratchDatabase<Result>(
  key: DatabaseTarget,
  name: string,
  work: (pool: Pool, url: string) => Promise<Result>,
  server = databaseUrl(key).url,
): Promise<Result> {
  return untilInterrupted(async (interruption) => {
    await withMaintenance(key, (pool) => pool.query(`CREATE DATABASE "${name}" ${pristine}`), server);
    const url = withDatabase(server, name);
    // This pool closes after DROP DATABASE: closing waits for running queries, and the DROP ends them.
    await using pool = createDatabasePool({ connectionString: url, applicationName: 'atriz-db', max: 2 });
    try {
      return await Promise.race([work(pool, url), interruption]);
    } finally {
      await withMaintenance(key, (pool) => dropDatabase(pool, name), server);
    }
  });
}

/** Runs `work`. A signal rejects `interruption`; after `work` has cleaned up, the signal ends the process. */
async function untilInterrupted<Result>(
  work: (interruption: Promise<never>) => Promise<Result>,
): Promise<Result> {
  let received: NodeJS.Signals | undefined;
  let reject: (reason: Error) => void = () => undefined;
  const interruption = new Promise<never>((_, rejects) => {
    reject = rejects;
  });
  interruption.catch(() => undefined);
  const listeners = onSignal((signal) => {
    received = signal;
    reject(new Error(`Interrupted by ${signal}.`));
  });
  try {
    return await work(interruption);
  } finally {
    listeners[Symbol.dispose]();
    // The listeners are removed, so the signal ends the process with the usual exit status.
    if (received) process.kill(process.pid, received);
  }
}
