// Findings about TimescaleDB: policies, jobs, the hourly aggregate, chunks and their compression.
import { trackingPolicies } from '../../schema/tracking.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { TimescaleMissingError } from '../../src/errors.ts';
import { getMigrationStatus } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import {
  chunks as chunksQuery,
  deletePolicy,
  hasWorkers,
  policyJobs,
  quoteStorage,
  readAggregateStorage,
  readTimescale,
  scheduledJobs,
  startWorkers,
  storedRelations,
} from '../../src/timescale/catalog.ts';
import { comparePolicies, type PolicyDifference } from '../../src/tracking/compare-policies.ts';
import type { Transaction } from '../../src/transaction.ts';
import { formatBytes, plural } from '../cli/output.ts';
import { type Check, error, type Found, onCatalogPath, warning } from './finding.ts';
import { thresholds } from './thresholds.ts';

export const timescaleChecks: readonly Check[] = [
  {
    name: 'policies',
    looksAt: 'policies, against their declaration beside the schema',
    run: findPolicies,
  },
  {
    name: 'jobs',
    isOfOperation: true,
    looksAt: 'jobs that failed, are overdue or switched off',
    run: whereEnabled(findJobs),
  },
  {
    name: 'workers',
    looksAt: 'slots for background workers, against what the databases here need',
    run: whereEnabled(findMissingWorkers),
  },
  {
    name: 'aggregate',
    isOfOperation: true,
    looksAt: 'hours that the aggregate lacks',
    run: whereEnabled(findStaleAggregate),
  },
  { name: 'chunks', looksAt: 'chunks that should be compressed', run: whereEnabled(findUncompressed) },
  { name: 'compression', looksAt: 'chunks that compress poorly', run: whereEnabled(findPoorCompression) },
];

type Look = (db: Transaction, schema: string) => Promise<Found[]>;

/** Runs a check only if TimescaleDB is enabled. Other checks report that it is missing. */
function whereEnabled(look: Look): Check['run'] {
  const lookInside = onCatalogPath(async (db) => {
    const timescale = await readTimescale(db);
    return timescale ? look(db, timescale.schema) : [];
  });
  return async (db, key) => (definitionOf(key).extensions.includes('timescaledb') ? lookInside(db, key) : []);
}

/** The declaration matches the newest migration, so nothing is compared while migrations are pending. */
async function findPolicies(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  if (!definitionOf(key).extensions.includes('timescaledb')) return [];
  const { pending } = await getMigrationStatus(db, key);
  if (pending.length > 0) return [];
  try {
    const differences = await comparePolicies(db);
    return differences.map((difference) => {
      const { relation, setting, declared, found } = difference;
      return error(
        `${setting} of ${relation} is ${found ?? 'not set'}, declared is ${declared ?? 'nothing'}`,
        mendPolicy(difference),
      );
    });
  } catch (failure) {
    if (failure instanceof TimescaleMissingError) return [];
    throw failure;
  }
}

const { refresh, lateRefresh } = trackingPolicies.location_hourly;

/**
 * No statement alters a policy in all versions of TimescaleDB, so policies are removed and added again. The
 * two refresh policies are replaced together.
 */
function mendPolicy({ relation, setting, declared }: PolicyDifference): string {
  const again = (policy: string, options: string) =>
    `SELECT remove_${policy}_policy('${relation}', if_exists => true); SELECT add_${policy}_policy('${relation}', ${options})`;
  if (declared === null) {
    return deletePolicy(relation, procedures[setting] ?? setting);
  }
  switch (setting) {
    case 'chunkInterval':
      return `SELECT set_chunk_time_interval('${relation}', INTERVAL '${declared}')`;
    case 'compression.after':
      return again('compression', `INTERVAL '${declared}'`);
    case 'compression.segmentBy':
      return `ALTER TABLE ${relation} SET (timescaledb.compress_segmentby = '${declared}')`;
    case 'compression.orderBy':
      return `ALTER TABLE ${relation} SET (timescaledb.compress_orderby = '${declared}')`;
    case 'retention':
      return again('retention', `INTERVAL '${declared}'`);
    case 'materializedOnly':
      return `ALTER MATERIALIZED VIEW ${relation} SET (timescaledb.materialized_only = ${declared})`;
    default:
      return [
        `SELECT remove_continuous_aggregate_policy('${relation}', if_exists => true)`,
        ...[refresh, lateRefresh].map(
          ({ startOffset, endOffset, every }) =>
            `SELECT add_continuous_aggregate_policy('${relation}', start_offset => INTERVAL '${startOffset}', ` +
            `end_offset => INTERVAL '${endOffset}', schedule_interval => INTERVAL '${every}')`,
        ),
      ].join('; ');
  }
}

const procedures: Readonly<Record<string, string>> = {
  retention: 'policy_retention',
  'compression.after': 'policy_compression',
};

interface Job {
  id: number;
  name: string;
  scheduled: boolean;
  failure: string | null;
  overdue: number | null;
}

/**
 * Returns the command that mends a failed job. It lets the scheduler run the job again, because only a successful run
 * by the scheduler clears the failure. CALL run_job may succeed even if the scheduler cannot run any job.
 */
function mendJob(id: number, failure: string): [mend: string, note: string] {
  const again = `SELECT alter_job(${id}, next_start => now())`;
  if (/failed to start/.test(failure)) return [again, 'once the server has slots for it: see workers'];
  // On PostgreSQL 15.20 with TimescaleDB 2.23 to 2.28, every scheduled job fails with this error.
  if (/cannot drop portal/.test(failure)) {
    return [
      'upgrade to PostgreSQL 16 or newer with TimescaleDB 2.29.2 or newer: docs/operating.md, Upgrade',
      `the scheduler of this version cannot run jobs; until then, "CALL run_job(${id})" from cron does the work`,
    ];
  }
  return [again, `and if it fails again, what CALL run_job(${id}) says`];
}

/**
 * On the embedded cluster, which has no scheduler to record failures, finds only jobs that are switched off.
 * `npm run dev` runs the jobs there. If it does not, the checks of the aggregate and the chunks report that.
 */
async function findJobs(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<Job>(
    `SELECT job_id AS id, proc_name || ' of ' || relation AS name, scheduled,
       CASE WHEN last_run_status = 'Failed' THEN coalesce(last_error, 'no message was kept') END AS failure,
       CASE WHEN scheduled AND ${hasWorkers} AND isfinite(next_start) AND next_start < now() - make_interval(secs => $1)
         THEN extract(epoch FROM now() - next_start)::float8 / 60 END AS overdue
     FROM ${policyJobs} AS j ORDER BY job_id`,
    [thresholds.jobs.overdueBy],
  );
  return rows.flatMap(({ id, name, scheduled, failure, overdue }) => [
    ...(failure === null
      ? []
      : [error(`the job ${id}, ${name}, failed: ${failure}`, ...mendJob(id, failure))]),
    ...(overdue === null
      ? []
      : [
          error(
            `the job ${id}, ${name}, is overdue for ${plural(Math.round(overdue), 'minute')}: the scheduler does not get to it`,
            startWorkers,
            'and look whether timescaledb.max_background_workers and max_worker_processes are large enough',
          ),
        ]),
    ...(scheduled
      ? []
      : [warning(`the job ${id}, ${name}, is switched off`, `SELECT alter_job(${id}, scheduled => true)`)]),
  ]);
}

/**
 * One worker is needed for the scheduler of each database, and one for each job of this database. The workers share
 * max_worker_processes with parallel queries and the launchers of TimescaleDB and of logical replication.
 */
async function findMissingWorkers(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ most: number; ofTimescale: number; parallel: number; needed: number }>(
    `SELECT current_setting('max_worker_processes')::int AS most,
       current_setting('timescaledb.max_background_workers')::int AS "ofTimescale",
       current_setting('max_parallel_workers')::int AS parallel,
       (SELECT greatest(1, count(*)) FROM pg_stat_activity WHERE backend_type = 'TimescaleDB Background Worker Scheduler')::int
         + ${scheduledJobs} AS needed
     WHERE ${hasWorkers}`,
  );
  const [found] = rows;
  if (!found) return [];
  const { most, ofTimescale, parallel, needed } = found;
  const setting = (name: string, value: number, least: number, why: string) =>
    value >= least
      ? []
      : [
          warning(
            `${name} is ${value}, and the databases of this server need ${least}: ${why}. Jobs fail to start without a free slot`,
            `ALTER SYSTEM SET ${name} = ${least}`,
            'and restart the server',
          ),
        ];
  return [
    ...setting('timescaledb.max_background_workers', ofTimescale, needed, 'schedulers and jobs'),
    ...setting(
      'max_worker_processes',
      most,
      2 + needed + parallel,
      `${needed} schedulers and jobs, ${parallel} parallel workers, 2 launchers`,
    ),
  ];
}

/** Reports locations that the refresh policy should have summarised in `location_hourly`. */
async function findStaleAggregate(db: Transaction): Promise<Found[]> {
  const storage = await readAggregateStorage(db, 'location_hourly');
  if (!storage) return [];
  const { rows } = await db.query<{ until: Date | null; since: Date; to: Date }>(
    `WITH refreshed AS (SELECT max(hour) + interval '1 hour' AS until FROM ${quoteStorage(storage)})
     SELECT until, coalesce(until, (SELECT date_trunc('hour', min(time)) FROM public.location_events)) AS since,
       date_trunc('hour', now() - interval '1 hour') AS to
     FROM refreshed
     WHERE EXISTS (SELECT 1 FROM public.location_events
       WHERE time >= coalesce(until, '-infinity') AND time < now() - make_interval(secs => $1))`,
    [thresholds.aggregate.behindBy],
  );
  const [stale] = rows;
  if (!stale) return [];
  const { until, since, to } = stale;
  return [
    error(
      `location_hourly has ${until ? `nothing after ${until.toISOString()}` : 'nothing'}, although there are locations: ` +
        'the raw retention will drop them before they are summarised',
      `CALL refresh_continuous_aggregate('location_hourly', '${since.toISOString()}', '${to.toISOString()}')`,
    ),
  ];
}

async function findUncompressed(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ job: number; relation: string; count: number; oldest: Date }>(
    `SELECT j.job_id AS job, j.relation, count(*)::int AS count, min(c.range_start) AS oldest
     FROM ${policyJobs} AS j
     JOIN ${chunksQuery} AS c ON (c.storage_schema, c.storage_name) = (j.hypertable_schema, j.hypertable_name)
     WHERE j.proc_name = 'policy_compression' AND NOT c.is_compressed
       AND c.range_end < now() - (j.config ->> 'compress_after')::interval - make_interval(secs => $1)
     GROUP BY j.job_id, j.relation`,
    [thresholds.chunks.uncompressedFor],
  );
  return rows.map(({ job, relation, count, oldest }) =>
    warning(
      `${plural(count, 'chunk')} of ${relation} should be compressed by now, the oldest of ${oldest.toISOString().slice(0, 10)}`,
      `CALL run_job(${job})`,
    ),
  );
}

async function findPoorCompression(db: Transaction, schema: string): Promise<Found[]> {
  const { ratioFrom, ratio } = thresholds.chunks;
  const { rows } = await db.query<{ relation: string; count: number; before: number; after: number }>(
    `SELECT r.name AS relation, count(*)::int AS count,
       sum(s.before_compression_total_bytes)::float8 AS before, sum(s.after_compression_total_bytes)::float8 AS after
     FROM ${storedRelations} AS r, LATERAL ${schema}.chunk_compression_stats(format('%I.%I', r.schema, r.name)::regclass) AS s
     WHERE r."isCompressed" AND NOT r."isAggregate" AND s.before_compression_total_bytes >= $1
       AND s.before_compression_total_bytes < $2 * s.after_compression_total_bytes
     GROUP BY r.schema, r.name`,
    [ratioFrom, ratio],
  );
  return rows.map(({ relation, count, before, after }) =>
    warning(
      `${plural(count, 'chunk')} of ${relation} went from ${formatBytes(before)} to ${formatBytes(after)} only: ` +
        'batches are small, as after late locations, or segments are',
      `SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass, recompress => true) ` +
        `FROM chunk_compression_stats('${relation}') WHERE before_compression_total_bytes < ${ratio} * after_compression_total_bytes`,
    ),
  );
}
