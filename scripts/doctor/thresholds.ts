// The thresholds of the doctor's checks, with their reasons.
import { oldestTimescale } from '../../src/timescale/timescale.ts';
import { type KnownHole, knownHoles } from './vulnerable-versions.ts';

const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;
const megabyte = 1024 ** 2;

/** Times are in seconds, sizes in bytes, shares from 0 to 1. */
export const defaultThresholds = {
  /** The oldest version that was tested; older ones lack features that the migration runner needs. */
  oldestExtension: { timescaledb: oldestTimescale } as Readonly<Record<string, string>>,
  /** Published security holes, by extension and the version that closes them. */
  knownHoles: knownHoles as readonly KnownHole[],
  connections: {
    /** Leaves room for another pool of ten, or for a deployment that runs old and new instances together. */
    warnAt: 0.8,
    /** The next peak would be refused. */
    errorAt: 0.95,
  },
  transactions: {
    /** VACUUM cannot remove rows that died since the transaction began; a dump of the largest database takes less. */
    activeFor: hour,
    /** An application that waits for something else, or forgot its COMMIT. */
    idleFor: 10 * minute,
    /** A prepared transaction survives its client: somebody must end it. */
    preparedFor: hour,
  },
  wraparound: {
    /** Five times autovacuum_freeze_max_age, which is 200 million: autovacuum does not keep up. */
    warnAt: 1_000_000_000,
    /** vacuum_failsafe_age of PostgreSQL 14 and newer; the server stops writing at 2.1 billion. */
    errorAt: 1_600_000_000,
  },
  bloat: {
    /** Twice autovacuum_vacuum_scale_factor, which is 0.2: autovacuum should have run long ago. */
    deadShare: 0.4,
    /** Below this, even a scan of only dead rows takes milliseconds. */
    deadRows: 10_000,
  },
  unusedIndex: {
    /** On smaller tables the planner is right not to use an index. */
    rows: 100_000,
    bytes: 10 * megabyte,
    /** The statistics must include the end of a month. */
    statisticsFor: 30 * day,
  },
  tokens: {
    /** purge-tokens deletes this many in a second; an hourly run leaves far fewer. */
    expired: 10_000,
  },
  jobs: {
    /** The shortest schedule is half an hour; a busy scheduler may be one run late. */
    overdueBy: 2 * hour,
  },
  aggregate: {
    /** The policy refreshes all but the last hour: a day behind means that it does not run. */
    behindBy: day,
  },
  backups: {
    /** A daily backup may start late and take long. */
    day: 36 * hour,
    week: 9 * day,
  },
  chunks: {
    /** The compression policy runs twice a day. */
    uncompressedFor: 2 * day,
    /** Smaller chunks are mostly empty pages. */
    ratioFrom: 50 * megabyte,
    /** Telemetry reached 12 to 18. Below 3, the segments are too small for compression. */
    ratio: 3,
  },
};

export type Thresholds = typeof defaultThresholds;
