// The thresholds of the doctor's checks, with their reasons.
import { oldestTimescale } from '../../src/timescale/timescale.ts';
import { knownHoles } from './vulnerable-versions.ts';

const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;
const megabyte = 1024 ** 2;

/** Times are in seconds, sizes in bytes, shares from 0 to 1. */
export const thresholds = {
  /** The oldest version on which the migrations and tests run. */
  oldestExtension: { timescaledb: oldestTimescale } as Readonly<Record<string, string>>,
  /** Published security holes and the versions that close them. */
  knownHoles,
  connections: {
    /** Leaves room for another pool of ten, or for old and new instances together during a deployment. */
    warnAt: 0.8,
    /** The next peak would exceed the limit. */
    errorAt: 0.95,
  },
  transactions: {
    /** VACUUM keeps rows that died since the transaction began. A dump of the largest database takes less time. */
    activeFor: hour,
    /** The application waits for something else, or did not send COMMIT. */
    idleFor: 10 * minute,
    /** A prepared transaction outlives its session, until it is committed or rolled back. */
    preparedFor: hour,
  },
  wraparound: {
    /** Five times the default of autovacuum_freeze_max_age, 200 million: autovacuum does not keep up. */
    warnAt: 1_000_000_000,
    /** The default of vacuum_failsafe_age, since PostgreSQL 14. The server stops writing at 2.1 billion. */
    errorAt: 1_600_000_000,
  },
  bloat: {
    /** Share of all rows. autovacuum runs at 0.2 of the live rows (autovacuum_vacuum_scale_factor). */
    deadShare: 0.4,
    /** A scan of fewer dead rows takes milliseconds. */
    deadRows: 10_000,
  },
  unusedIndex: {
    /** On smaller tables a sequential scan may be the better plan. */
    rows: 100_000,
    bytes: 10 * megabyte,
    /** Long enough to include reports that run once a month. */
    statisticsFor: 30 * day,
  },
  tokens: {
    /** An hourly run of purge-tokens leaves far fewer. */
    expired: 10_000,
  },
  jobs: {
    /** Four runs of the most frequent policy, which runs every 30 minutes. */
    overdueBy: 2 * hour,
  },
  aggregate: {
    /** The policy runs every 30 minutes, so a delay of a day means that it does not run at all. */
    behindBy: day,
  },
  backups: {
    /** Longer than the interval between two backups, because a backup may start late and take long. */
    day: 36 * hour,
    week: 9 * day,
  },
  archiver: {
    /** 1 GB at the usual 16 MB per segment. A bulk load may write that much before the archiver copies it. */
    segments: 64,
    /** Ten times the archive_timeout of docs/operating.md. If the machine is lost, unarchived changes are lost too. */
    seconds: 10 * minute,
  },
  chunks: {
    /** Four runs of the compression policy, which by default runs every 12 hours. */
    uncompressedFor: 2 * day,
    /** In smaller chunks, partly empty pages distort the ratio. */
    ratioFrom: 50 * megabyte,
    /** The capacity benchmark reached 10 (docs/operating.md). Below 3, segments are too small. */
    ratio: 3,
  },
};
