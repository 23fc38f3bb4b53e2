// Findings about TimescaleDB: policies, jobs, the hourly aggregate, chunks and their compression.
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { TimescaleMissingError } from '../../src/errors.ts';
import { getMigrationStatus } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { timescaleSchema } from '../../src/timescale/timescale.ts';
import { comparePolicies } from '../../src/tracking/policies.ts';
import type { Transaction } from '../../src/transaction.ts';
import { formatBytes, plural } from '../cli/output.ts';
import { type Check, error, type Found, onCatalogPath, warning } from './finding.ts';
import { mendPolicy } from './policy-mend.ts';
import type { Thresholds } from './thresholds.ts';

export const timescaleChecks: readonly Check[] = [
  {
    name: 'policies',
    looksAt: 'policies, against their declaration beside the schema',
    run: findPolicies,
  },
  ...checksOfCatalog(),
];

function checksOfCatalog(): Check[] {
  const looks = [
    ['jobs', 'jobs that failed, are overdue or switched off', findJobs],
    ['workers', 'slots for background workers, against what the databases here need', findMissingWorkers],
    ['aggregate', 'hours that the aggregate lacks', findStaleAggregate],
    ['chunks', 'chunks that should be compressed', findUncompressed],
    ['compression', 'chunks that compress poorly', findPoorCompression],
  ] as const;
  return looks.map(([name, looksAt, look]) => ({ name, looksAt, run: whereEnabled(look) }));
}

type Look = (db: Transaction, schema: string, thresholds: Thresholds) => Promise<Found[]>;

/** Without TimescaleDB there is nothing to ask; that it is missing is said by others. */
function whereEnabled(look: Look): Check['run'] {
  const lookInside = onCatalogPath(async (db, _key, thresholds) => {
    const schema = await timescaleSchema(db);
    return schema === undefined ? [] : look(db, schema, thresholds);
  });
  return async (db, key, thresholds) =>
    definitionOf(key).extensions.includes('timescaledb') ? lookInside(db, key, thresholds) : [];
}

/** The declaration belongs to the newest migration: until that is applied, a difference is expected. */
async function findPolicies(db: Pool, key: DatabaseKey): Promise<Found[]> {
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

interface Job {
  id: number;
  name: string;
  scheduled: boolean;
  failure: string | null;
  overdue: number | null;
}

/**
 * What mends a job that failed. Only its next run in the scheduler clears the record, and shows whether it works there:
 * a run by hand may succeed where the scheduler cannot run any job.
 */
function mendJob(id: number, failure: string): [mend: string, note: string] {
  const again = `SELECT alter_job(${id}, next_start => now())`;
  if (/failed to start/.test(failure)) return [again, 'once the server has slots for it: see workers'];
  // PostgreSQL 15.20 with TimescaleDB up to 2.28, its last for that version: each job of the scheduler ends so.
  if (/cannot drop portal/.test(failure)) {
    return [
      'upgrade to PostgreSQL 16 or newer with TimescaleDB 2.29.2 or newer: docs/operating.md, Upgrade',
      `the scheduler of this version cannot run jobs; until then, "CALL run_job(${id})" from cron does the work`,
    ];
  }
  return [again, `and if it fails again, what CALL run_job(${id}) says`];
}

/**
 * A server without a scheduler keeps no record of runs: on the embedded cluster, `npm run dev` runs the jobs by
 * itself, and only what they leave undone tells whether it does.
 */
async function findJobs(db: Transaction, _schema: string, { jobs }: Thresholds): Promise<Found[]> {
  const { rows } = await db.query<Job>(
    `SELECT j.job_id AS id, j.proc_name || coalesce(' of ' || c.view_name, ' of ' || j.hypertable_name, '') AS name, j.scheduled,
       CASE WHEN s.last_run_status = 'Failed' THEN coalesce((
         SELECT e.err_message FROM timescaledb_information.job_errors e
         WHERE e.job_id = j.job_id ORDER BY e.start_time DESC LIMIT 1), 'no message was kept') END AS failure,
       CASE WHEN j.scheduled AND current_setting('timescaledb.max_background_workers', true) IS NOT NULL
           AND isfinite(s.next_start) AND s.next_start < now() - make_interval(secs => $1)
         THEN extract(epoch FROM now() - s.next_start)::float8 / 60 END AS overdue
     FROM timescaledb_information.jobs j
     LEFT JOIN timescaledb_information.job_stats s USING (job_id)
     LEFT JOIN timescaledb_information.continuous_aggregates c ON c.materialization_hypertable_name = j.hypertable_name
     WHERE j.hypertable_name IS NOT NULL
     ORDER BY j.job_id`,
    [jobs.overdueBy],
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
            'SELECT _timescaledb_functions.start_background_workers()',
            'and look whether timescaledb.max_background_workers and max_worker_processes are large enough',
          ),
        ]),
    ...(scheduled
      ? []
      : [warning(`the job ${id}, ${name}, is switched off`, `SELECT alter_job(${id}, scheduled => true)`)]),
  ]);
}

/**
 * Each database with TimescaleDB has a scheduler, and each job that runs is a worker. All of them, and the workers of
 * parallel queries, share max_worker_processes with the launchers of TimescaleDB and of logical replication.
 */
async function findMissingWorkers(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ most: number; ofTimescale: number; parallel: number; needed: number }>(
    `SELECT current_setting('max_worker_processes')::int AS most,
       current_setting('timescaledb.max_background_workers')::int AS "ofTimescale",
       current_setting('max_parallel_workers')::int AS parallel,
       (SELECT greatest(1, count(*)) FROM pg_stat_activity WHERE backend_type = 'TimescaleDB Background Worker Scheduler')::int
         + (SELECT count(*) FROM timescaledb_information.jobs WHERE scheduled)::int AS needed
     WHERE current_setting('timescaledb.max_background_workers', true) IS NOT NULL`,
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

/** Points that are older than anything that the policy should leave, and newer than what it refreshed last. */
async function findStaleAggregate(
  db: Transaction,
  _schema: string,
  { aggregate }: Thresholds,
): Promise<Found[]> {
  const { rows: views } = await db.query<{ schema: string; name: string }>(
    `SELECT materialization_hypertable_schema AS schema, materialization_hypertable_name AS name
     FROM timescaledb_information.continuous_aggregates WHERE view_name = 'location_hourly'`,
  );
  const [view] = views;
  if (!view) return [];
  const storage = `${quoteIdentifier(view.schema)}.${quoteIdentifier(view.name)}`;
  const { rows } = await db.query<{ until: Date | null; since: Date; to: Date }>(
    `WITH refreshed AS (SELECT max(hour) + interval '1 hour' AS until FROM ${storage})
     SELECT until, coalesce(until, (SELECT date_trunc('hour', min(time)) FROM public.location_events)) AS since,
       date_trunc('hour', now() - interval '1 hour') AS to
     FROM refreshed
     WHERE EXISTS (SELECT 1 FROM public.location_events
       WHERE time >= coalesce(until, '-infinity') AND time < now() - make_interval(secs => $1))`,
    [aggregate.behindBy],
  );
  const [stale] = rows;
  if (!stale) return [];
  const { until, since, to } = stale;
  return [
    error(
      `location_hourly has ${until ? `nothing after ${until.toISOString()}` : 'nothing'}, although there are points: ` +
        'the raw retention will drop them before they are summarised',
      `CALL refresh_continuous_aggregate('location_hourly', '${since.toISOString()}', '${to.toISOString()}')`,
    ),
  ];
}

async function findUncompressed(db: Transaction, _schema: string, { chunks }: Thresholds): Promise<Found[]> {
  const { rows } = await db.query<{ job: number; relation: string; count: number; oldest: Date }>(
    `SELECT j.job_id AS job, j.hypertable_name AS relation, count(*)::int AS count, min(c.range_start) AS oldest
     FROM timescaledb_information.jobs j
     JOIN timescaledb_information.chunks c USING (hypertable_schema, hypertable_name)
     WHERE j.proc_name = 'policy_compression' AND NOT c.is_compressed
       AND c.range_end < now() - (j.config ->> 'compress_after')::interval - make_interval(secs => $1)
     GROUP BY j.job_id, j.hypertable_name`,
    [chunks.uncompressedFor],
  );
  return rows.map(({ job, relation, count, oldest }) =>
    warning(
      `${plural(count, 'chunk')} of ${relation} should be compressed by now, the oldest of ${oldest.toISOString().slice(0, 10)}`,
      `CALL run_job(${job})`,
    ),
  );
}

async function findPoorCompression(
  db: Transaction,
  schema: string,
  { chunks }: Thresholds,
): Promise<Found[]> {
  const { rows } = await db.query<{ relation: string; count: number; before: number; after: number }>(
    `SELECT h.hypertable_name AS relation, count(*)::int AS count,
       sum(s.before_compression_total_bytes)::float8 AS before, sum(s.after_compression_total_bytes)::float8 AS after
     FROM timescaledb_information.hypertables h,
       LATERAL ${schema}.chunk_compression_stats(format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass) AS s
     WHERE h.compression_enabled AND s.before_compression_total_bytes >= $1
       AND s.before_compression_total_bytes < $2 * s.after_compression_total_bytes
     GROUP BY h.hypertable_schema, h.hypertable_name`,
    [chunks.ratioFrom, chunks.ratio],
  );
  return rows.map(({ relation, count, before, after }) =>
    warning(
      `${plural(count, 'chunk')} of ${relation} went from ${formatBytes(before)} to ${formatBytes(after)} only: ` +
        'batches are small, as after late points, or segments are',
      `SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass, recompress => true) ` +
        `FROM chunk_compression_stats('${relation}') WHERE before_compression_total_bytes < ${chunks.ratio} * after_compression_total_bytes`,
    ),
  );
}
