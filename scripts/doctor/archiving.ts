// Findings about the WAL archive and pgBackRest's backups, from which a server is restored to a point in time.
import { stanzaName } from '../../src/config.ts';
import type { Pool } from '../../src/pool.ts';
import type { Transaction } from '../../src/transaction.ts';
import { readStanza, type Stanza, stanzaStatus } from '../backup/client/pgbackrest.ts';
import { plural } from '../cli/output.ts';
import { type Check, error, type Found, onCatalogPath, warning } from './finding.ts';
import { thresholds } from './thresholds.ts';

export const archivingChecks: readonly Check[] = [
  {
    name: 'archiver',
    ofServer: true,
    isOfOperation: true,
    looksAt: 'an archiver that fails or lags',
    run: onCatalogPath(findArchiver),
  },
  {
    name: 'stanza',
    ofServer: true,
    isOfOperation: true,
    looksAt: 'the backups of pgBackRest in the stanza that PGBACKREST_STANZA names',
    run: findStanza,
  },
];

interface Archiver {
  isEmpty: boolean;
  hasTimeout: boolean;
  /** Null unless the last attempt failed. */
  failedWal: string | null;
  failedAt: Date;
  archivedAt: Date | null;
  maySeeFiles: boolean;
}

/** Every role may run this query. A standby archives only if archive_mode is "always". */
async function findArchiver(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<Archiver>(
    `SELECT current_setting('archive_command') = '' AND current_setting('archive_library') = '' AS "isEmpty",
       current_setting('archive_timeout')::interval > '0' AS "hasTimeout",
       CASE WHEN last_archived_time IS NULL OR last_failed_time > last_archived_time THEN last_failed_wal END AS "failedWal",
       last_failed_time AS "failedAt", last_archived_time AS "archivedAt",
       has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS "maySeeFiles"
     FROM pg_stat_archiver
     WHERE current_setting('archive_mode') = 'always' OR current_setting('archive_mode') = 'on' AND NOT pg_is_in_recovery()`,
  );
  const [found] = rows;
  if (!found) return [];
  const { isEmpty, hasTimeout, failedWal, failedAt, archivedAt, maySeeFiles } = found;
  if (isEmpty) {
    return [
      error(
        `archive_mode is on, but archive_command and archive_library are empty: nothing is archived, ${keepsWal}`,
        `ALTER SYSTEM SET archive_command = 'pgbackrest --stanza=${stanzaName() ?? 'main'} archive-push %p'; SELECT pg_reload_conf()`,
        'or ALTER SYSTEM SET archive_mode = off, and restart the server',
      ),
    ];
  }
  const timeout = hasTimeout
    ? []
    : [
        warning(
          'archive_timeout is 0: the newest changes are archived when their WAL segment is full, which may take hours',
          "ALTER SYSTEM SET archive_timeout = '1min'; SELECT pg_reload_conf()",
        ),
      ];
  if (failedWal !== null) {
    const last = archivedAt
      ? `the last success was at ${archivedAt.toISOString()}`
      : 'nothing was archived before';
    return [
      ...timeout,
      error(
        `the archiver failed at ${failedAt.toISOString()} with ${failedWal}, and ${last}: ${keepsWal}`,
        ...mendArchiver(),
      ),
    ];
  }
  const { segments, seconds } = await readWaiting(db, maySeeFiles);
  const { archiver } = thresholds;
  if (segments <= archiver.segments && seconds <= archiver.seconds) return timeout;
  return [
    ...timeout,
    error(
      `the archiver lags: ${plural(segments, 'WAL segment')} waiting, the oldest for ${plural(Math.round(seconds / 60), 'minute')}: ${keepsWal}`,
      ...mendArchiver(),
    ),
  ];
}

const keepsWal = 'the server keeps this WAL until its disk is full';

function mendArchiver(): [mend: string, note: string] {
  const stanza = stanzaName();
  return stanza === undefined
    ? ['run archive_command by hand, as the user of the server', 'its messages are in the log of the server']
    : [
        checkStanza(stanza),
        'as the user of the server; the messages of archive_command are in the log of the server',
      ];
}

const checkStanza = (stanza: string): string => `pgbackrest --stanza=${stanza} check`;

/** Counts waiting files. Without pg_monitor, counts the segments between the last archived and the current one. */
async function readWaiting(
  db: Transaction,
  maySeeFiles: boolean,
): Promise<{ segments: number; seconds: number }> {
  const files = `
    SELECT count(*)::int AS segments, extract(epoch FROM now() - min(modification))::float8 AS seconds
    FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'`;
  const distance = `
    SELECT segments::int AS segments, extract(epoch FROM now() - last_archived_time)::float8 AS seconds
    FROM pg_stat_archiver, (SELECT setting::bigint AS size FROM pg_settings WHERE name = 'wal_segment_size') AS segment,
      LATERAL (SELECT trunc((pg_current_wal_lsn() - '0/0') / size) - 1
        - ('x' || substr(last_archived_wal, 9, 8))::bit(32)::bigint * (4294967296 / size)
        - ('x' || substr(last_archived_wal, 17, 8))::bit(32)::bigint AS segments) AS waiting
    WHERE last_archived_wal ~ '^[0-9A-F]{24}' AND NOT pg_is_in_recovery() AND segments > 0`;
  const { rows } = await db.query<{ segments: number; seconds: number | null }>(
    maySeeFiles ? files : distance,
  );
  const { segments = 0, seconds } = rows[0] ?? {};
  return { segments, seconds: seconds ?? 0 };
}

/** Returns no findings if the stanza belongs to another server. */
async function findStanza(db: Pool): Promise<Found[]> {
  const name = stanzaName();
  if (name === undefined) return [];
  const stanza = await readStanza(name);
  const { rows } = await db.primary.query<{ systemId: string; archives: boolean }>(
    `SELECT system_identifier::pg_catalog.text AS "systemId",
       pg_catalog.current_setting('archive_mode') OPERATOR(pg_catalog.<>) 'off' AS archives
     FROM pg_catalog.pg_control_system()`,
  );
  const { systemId = '', archives = false } = rows[0] ?? {};
  // The JSON has the id as a number, so both sides are rounded. The lost bits are only a part of a process id.
  const clusters = stanza.db.filter((cluster) => cluster['system-id'] === Number(systemId));
  if (stanza.db.length > 0 && clusters.length === 0) return [];
  const stateless = findStatus(stanza);
  if (stateless) return [stateless];
  return [
    ...(archives
      ? []
      : [
          error(
            `archive_mode is off: without WAL, the backups of the stanza ${name} cannot be restored to a moment`,
            'ALTER SYSTEM SET archive_mode = on',
            'and restart the server',
          ),
        ]),
    ...findStanzaBackups(stanza, clusters),
  ];
}

function findStatus({ name, status, repo }: Stanza): Found | undefined {
  switch (status.code) {
    case stanzaStatus.ok:
    case stanzaStatus.noBackup:
      return undefined;
    case stanzaStatus.noPath:
    case stanzaStatus.noData:
      return error(
        `the stanza ${name} does not exist: ${status.message}`,
        `pgbackrest --stanza=${name} stanza-create`,
        'as the user of the server, while it runs',
      );
    default: {
      const reasons = repo
        .filter((one) => one.status.code !== stanzaStatus.ok)
        .map((one) => `repo${one.key}: ${one.status.message}`);
      return error(
        `the stanza ${name} is in error: ${reasons.join('; ') || status.message}`,
        checkStanza(name),
      );
    }
  }
}

/** Expects a backup every day and a full backup every week. The other backups are based on the full one. */
function findStanzaBackups({ name, backup }: Stanza, clusters: Stanza['db']): Found[] {
  const own = backup
    .filter(({ database }) =>
      clusters.some((one) => one.id === database.id && one['repo-key'] === database['repo-key']),
    )
    .toSorted((one, other) => other.timestamp.stop - one.timestamp.stop);
  const [newest] = own;
  const command = (type: string) => `pgbackrest --stanza=${name} --type=${type} backup`;
  if (!newest) return [error(`the stanza ${name} has no backup`, command('full'))];
  const full = own.find(({ type }) => type === 'full') ?? newest;
  const age = ({ timestamp }: typeof newest) => Date.now() / 1000 - timestamp.stop;
  const hours = (one: typeof newest) => `${Math.floor(age(one) / 3600)} hours old`;
  return [
    ...(newest.error
      ? [
          error(
            `pages had a wrong checksum in the backup ${newest.label} of the stanza ${name}`,
            `pgbackrest --stanza=${name} --set=${newest.label} info`,
            'names the files; restore them from an older backup',
          ),
        ]
      : []),
    ...(age(newest) > thresholds.backups.day
      ? [error(`the newest backup of the stanza ${name} is ${hours(newest)}`, command('diff'))]
      : []),
    ...(age(full) > thresholds.backups.week
      ? [warning(`the newest full backup of the stanza ${name} is ${hours(full)}`, command('full'))]
      : []),
  ];
}
