// Findings about the server: session settings, extensions, connections, transactions.
import { databaseUrl } from '../../src/config.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { findSessionSetting } from '../../src/driver/session-settings.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { hasWorkers } from '../../src/timescale/catalog.ts';
import { isOlder } from '../../src/timescale/timescale.ts';
import type { Transaction } from '../../src/transaction.ts';
import { formatCount } from '../cli/output.ts';
import { type Check, error, type Found, onCatalogPath, warning } from './finding.ts';
import { thresholds } from './thresholds.ts';
import { lastTimescale } from './vulnerable-versions.ts';

export const serverChecks: readonly Check[] = [
  { name: 'time-zone', looksAt: 'the time zone of sessions that ask for none', run: findTimeZone },
  {
    name: 'session-settings',
    looksAt: 'settings that change which values sessions read and write',
    run: findSettings,
  },
  {
    name: 'extensions',
    looksAt: 'versions of extensions, and those that are missing',
    run: onCatalogPath(findExtensions),
  },
  {
    name: 'known-holes',
    looksAt: 'extensions of a version with a published security hole',
    run: onCatalogPath(findKnownHoles),
  },
  {
    name: 'connections',
    looksAt: 'connections in use, against the limit',
    ofServer: true,
    run: onCatalogPath(findConnections),
  },
  {
    name: 'transactions',
    looksAt: 'long, idle and prepared transactions',
    run: onCatalogPath(findTransactions),
  },
  { name: 'wraparound', looksAt: 'the age of transaction ids', run: onCatalogPath(findWraparound) },
];

/** Sessions of this package set UTC. Other clients, such as psql, use the default of the server. */
async function findTimeZone(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  const found = (await findForeignSettings(db, key)).filter(({ name }) => name === 'TimeZone');
  return found.map(({ value, mend }) =>
    error(
      `sessions that ask for no time zone get ${value}: days begin elsewhere there than in the applications`,
      mend,
    ),
  );
}

/**
 * Checks settings other than the time zone. This package sets them in its sessions. Behind a transaction-pooling proxy
 * it can set only a few, and the server's defaults apply to the others.
 */
async function findSettings(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  const found = (await findForeignSettings(db, key)).filter(({ name }) => name !== 'TimeZone');
  return found.map(({ name, value, mend }) =>
    warning(
      `sessions that ask for no ${name} get ${value}: other clients read and write other values than the applications`,
      mend,
    ),
  );
}

/** Finds settings for which other clients get a value that is not equivalent to what this package sets. */
async function findForeignSettings(db: Pool, key: DatabaseTarget) {
  await using asking = createDatabasePool({
    connectionString: databaseUrl(key).url,
    applicationName: 'atriz-db',
    max: 1,
    hasServerDefaults: true,
  });
  const { rows } = await asking.query<{ name: string; value: string; source: string; role: string }>(
    'SELECT name, setting AS value, source, current_user AS role FROM pg_catalog.pg_settings',
  );
  return rows.flatMap(({ name, value, source, role: user }) => {
    const wanted = findSessionSetting(name);
    if (!wanted || wanted.accepts(value)) return [];
    const setting = name.toLowerCase();
    const role = `ALTER ROLE ${quoteIdentifier(user)}`;
    const database = `DATABASE ${quoteIdentifier(db.name)}`;
    const mends: Readonly<Record<string, string>> = {
      user: `${role} RESET ${setting}`,
      'database user': `${role} IN ${database} RESET ${setting}`,
    };
    const ofDatabase = `ALTER ${database} SET ${setting} TO '${wanted.value.replace(', ', "', '")}'`;
    return [{ name, value, mend: mends[source] ?? ofDatabase }];
  });
}

async function findExtensions(db: Transaction, key: DatabaseTarget): Promise<Found[]> {
  const { rows } = await db.query<{ name: string; offered: string; installed: string | null }>(
    `SELECT name, default_version AS offered, installed_version AS installed FROM pg_available_extensions
     WHERE installed_version IS NOT NULL OR name = ANY($1)`,
    [definitionOf(key).extensions],
  );
  const missing = definitionOf(key)
    .extensions.filter((name) => !rows.some((row) => row.name === name))
    .map((name) =>
      error(`the server offers no ${name}`, `npm run dev, or a server with ${name}: the README says which`),
    );
  const old = rows.flatMap(({ name, offered, installed }) => {
    const update = `ALTER EXTENSION ${quoteIdentifier(name)} UPDATE`;
    const oldest = thresholds.oldestExtension[name];
    if (oldest !== undefined && isOlder(installed ?? offered, oldest)) {
      const first = isOlder(offered, oldest)
        ? `install ${name} ${oldest} or newer on the server first`
        : undefined;
      return [
        error(`${name} is ${installed ?? offered}: this package needs ${oldest} or newer`, update, first),
      ];
    }
    if (installed === null || !isOlder(installed, offered)) return [];
    const note = name === 'timescaledb' ? 'as the first statement of its session: psql -X' : undefined;
    return [
      warning(`${name} is ${installed} in this database, the server has ${offered} by now`, update, note),
    ];
  });
  return [...missing, ...old];
}

/**
 * Skips the TimescaleDB of the embedded cluster, which has no workers. It cannot be updated, and the cluster
 * listens on loopback only.
 */
async function findKnownHoles(db: Transaction): Promise<Found[]> {
  const { knownHoles } = thresholds;
  const { rows } = await db.query<{ name: string; version: string; major: number }>(
    `SELECT extname AS name, extversion AS version, current_setting('server_version_num')::int / 10000 AS major
     FROM pg_extension
     WHERE extname <> 'timescaledb' OR ${hasWorkers}`,
  );
  return rows.flatMap(({ name, version, major }) => {
    const open = knownHoles.filter((hole) => hole.extension === name && isOlder(version, hole.closedIn));
    const newest = open.at(-1);
    if (!newest) return [];
    const last = name === 'timescaledb' ? lastTimescale[major] : undefined;
    const tooOld = last !== undefined && !isOlder(newest.closedIn, last);
    const first = tooOld
      ? `TimescaleDB ${last} is the last for PostgreSQL ${major}: upgrade PostgreSQL first`
      : `install ${name} ${newest.closedIn} or newer on the server first; as the first statement of its session: psql -X`;
    return [
      warning(
        `${name} ${version} has a known hole, closed in ${newest.closedIn}: ` +
          open.map(({ id, risk }) => `${risk} (${id})`).join('; '),
        `ALTER EXTENSION ${quoteIdentifier(name)} UPDATE`,
        first,
      ),
    ];
  });
}

async function findConnections(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ used: number; most: number; limit: number; top: string | null }>(
    `WITH sessions AS (
       SELECT application_name, usename FROM pg_stat_activity WHERE backend_type = 'client backend'
     )
     SELECT (SELECT count(*) FROM sessions)::int AS used, current_setting('max_connections')::int AS "limit",
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most,
       (SELECT string_agg(text, ', ') FROM (
          SELECT count(*) || ' of ' || coalesce(nullif(application_name, ''), usename, 'others') AS text
          FROM sessions GROUP BY application_name, usename ORDER BY count(*) DESC LIMIT 3) AS most_of_them) AS top`,
  );
  const { used = 0, most = 1, limit = 1, top } = rows[0] ?? {};
  const share = used / most;
  if (share < thresholds.connections.warnAt) return [];
  const found = share < thresholds.connections.errorAt ? warning : error;
  return [
    found(
      `${used} of ${most} connections of the server are in use: ${top}`,
      `ALTER SYSTEM SET max_connections = ${limit * 2}`,
      'and restart the server; better: lower max of the pools, or put PgBouncer in front',
    ),
  ];
}

/** Without pg_read_all_stats, a role cannot see the open transactions of others, so they are not reported. */
async function findTransactions(db: Transaction): Promise<Found[]> {
  const { transactions } = thresholds;
  const { rows } = await db.query<{ id: string; what: string; minutes: number; isPrepared: boolean }>(
    `SELECT pid::text AS id, concat(state, ' of ', usename, ' (', coalesce(nullif(application_name, ''), 'no application name'), ')') AS what,
       extract(epoch FROM now() - CASE WHEN state LIKE 'idle%' THEN state_change ELSE xact_start END)::float8 / 60 AS minutes,
       false AS "isPrepared"
     FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL
       AND CASE WHEN state LIKE 'idle%' THEN state_change < now() - make_interval(secs => $1)
         ELSE xact_start < now() - make_interval(secs => $2) END
     UNION ALL
     SELECT gid, concat('of ', owner), extract(epoch FROM now() - prepared)::float8 / 60, true FROM pg_prepared_xacts
     WHERE database = current_database() AND prepared < now() - make_interval(secs => $3)`,
    [transactions.idleFor, transactions.activeFor, transactions.preparedFor],
  );
  return rows.map(({ id, what, minutes, isPrepared }) =>
    isPrepared
      ? warning(
          `the prepared transaction ${id} ${what} is open for ${Math.round(minutes)} minutes: VACUUM waits for it, and so do its locks`,
          `ROLLBACK PREPARED '${id.replaceAll("'", "''")}'`,
        )
      : warning(
          `a transaction is open for ${Math.round(minutes)} minutes, ${what}: VACUUM removes nothing that it may see`,
          `SELECT pg_terminate_backend(${id})`,
        ),
  );
}

async function findWraparound(db: Transaction): Promise<Found[]> {
  // 2147483647 is what age() returns for permanent ids, which do not wrap around.
  const { rows } = await db.query<{ age: number }>(
    `SELECT greatest(age(datfrozenxid), mxid_age(datminmxid)) AS age FROM pg_database
     WHERE datname = current_database() AND age(datfrozenxid) < 2147483647 AND mxid_age(datminmxid) < 2147483647`,
  );
  const age = rows[0]?.age ?? 0;
  if (age < thresholds.wraparound.warnAt) return [];
  const found = age < thresholds.wraparound.errorAt ? warning : error;
  return [
    found(
      `the oldest transaction id is ${formatCount(age)} transactions old: the server stops writing at 2,146,000,000`,
      'VACUUM (FREEZE)',
      'end first what is old in pg_stat_activity, pg_prepared_xacts and pg_replication_slots',
    ),
  ];
}
