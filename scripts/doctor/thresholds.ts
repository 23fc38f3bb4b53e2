// From where on the doctor speaks up: numbers with their reasons, read by the checks.
import { oldestTimescale } from '../../src/timescale/timescale.ts';
import { type KnownHole, knownHoles } from './known-holes.ts';

const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;
const megabyte = 1024 ** 2;

/** Times are in seconds, sizes in bytes, shares from 0 to 1. */
export const defaultThresholds = {
  /** The oldest that the migrations and field tests ran on; older ones lack what the runner relies on. */
  oldestExtension: { timescaledb: oldestTimescale } as Readonly<Record<string, string>>,
  /** Published security holes, by extension and the version that closes them. */
  knownHoles: knownHoles as readonly KnownHole[],
  connections: {
    /** A pool of ten more, or a deploy that runs old and new side by side, still fits below. */
    warnAt: 0.8,
    /** The next burst is refused. */
    errorAt: 0.95,
  },
  transactions: {
    /** VACUUM can remove nothing that died since; a dump of the largest database takes less. */
    activeFor: hour,
    /** An application that waits for something else, or forgot its COMMIT. */
    idleFor: 10 * minute,
    /** A prepared transaction survives its client: somebody must end it. */
    preparedFor: hour,
  },
  wraparound: {
    /** autovacuum_freeze_max_age is 200 million: five times that means that autovacuum does not get through. */
    warnAt: 1_000_000_000,
    /** vacuum_failsafe_age of PostgreSQL 14 and newer; the server stops writing at 2.1 billion. */
    errorAt: 1_600_000_000,
  },
  bloat: {
    /** autovacuum_vacuum_scale_factor is 0.2: twice that is what autovacuum should have removed long ago. */
    deadShare: 0.4,
    /** Below, even a scan of nothing but dead rows takes milliseconds. */
    deadRows: 10_000,
  },
  unusedIndex: {
    /** On smaller tables the planner is right not to use an index. */
    rows: 100_000,
    bytes: 10 * megabyte,
    /** A month end must have been seen. */
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
    /** The policy refreshes all but the last hour: a day without means that it does not run. */
    behindBy: day,
  },
  backups: {
    /** A daily one may start late and take long. */
    day: 36 * hour,
    week: 9 * day,
  },
  chunks: {
    /** The compression policy runs twice a day. */
    uncompressedFor: 2 * day,
    /** Smaller chunks are mostly empty pages. */
    ratioFrom: 50 * megabyte,
    /** Telemetry was measured at 12 to 18. Below 3 the segments are too small to be worth it. */
    ratio: 3,
  },
};

export type Thresholds = typeof defaultThresholds;
