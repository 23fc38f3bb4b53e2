// Queries on TimescaleDB's catalog, as functions and SQL fragments. In src, only this folder names the
// catalog's tables and views.
import { is } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import type { DatabaseTarget } from '../databases.ts';
import { TimescaleMissingError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { nameOf, type Relation } from '../references/schema.ts';
import { quoteIdentifier } from '../sql/identifiers.ts';

/** Reads TimescaleDB's version and the schema of its functions (quoted). Undefined if TimescaleDB is not enabled. */
export async function readTimescale(
  db: Pick<Database, 'query'>,
): Promise<{ schema: string; version: string } | undefined> {
  const { rows } = await db.query<{ schema: string; version: string }>(
    `SELECT pg_catalog.quote_ident(n.nspname) AS schema, x.extversion AS version
     FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_namespace n ON n.oid = x.extnamespace
     WHERE x.extname = 'timescaledb'`,
  );
  return rows[0];
}

/** A subquery: hypertables and continuous aggregates. A hidden hypertable stores the rows of an aggregate. */
export const storedRelations = `(
  SELECT hypertable_schema AS schema, hypertable_name AS name,
    hypertable_schema AS storage_schema, hypertable_name AS storage_name,
    compression_enabled AS "isCompressed", false AS "isAggregate"
  FROM timescaledb_information.hypertables WHERE hypertable_schema !~ '^_timescaledb'
  UNION ALL
  SELECT view_schema, view_name, materialization_hypertable_schema, materialization_hypertable_name, compression_enabled, true
  FROM timescaledb_information.continuous_aggregates)`;

/** A subquery: chunks, to join by `storage_schema` and `storage_name`. */
export const chunks = `(
  SELECT hypertable_schema AS storage_schema, hypertable_name AS storage_name, chunk_name, primary_dimension,
    range_start, range_end, is_compressed
  FROM timescaledb_information.chunks)`;

/**
 * A subquery: the jobs of policies and the relation that each serves. For an aggregate, some versions of
 * TimescaleDB name the view in `jobs`, others its hidden hypertable.
 */
export const policyJobs = `(
  SELECT j.job_id, j.proc_name::text, j.schedule_interval, j.scheduled, j.config, j.hypertable_schema, j.hypertable_name,
    coalesce(c.view_schema, j.hypertable_schema)::text AS schema, coalesce(c.view_name, j.hypertable_name)::text AS relation,
    s.last_run_started_at, s.last_run_status, s.next_start, s.total_failures,
    (SELECT e.err_message FROM timescaledb_information.job_errors e
     WHERE e.job_id = j.job_id ORDER BY e.start_time DESC LIMIT 1) AS last_error
  FROM timescaledb_information.jobs j
  LEFT JOIN timescaledb_information.job_stats s USING (job_id)
  LEFT JOIN timescaledb_information.continuous_aggregates c
    ON (c.materialization_hypertable_schema, c.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name)
  WHERE j.hypertable_name IS NOT NULL)`;

/**
 * A subquery: time ranges of continuous aggregates whose rows changed after the last refresh. Ranges without a start
 * or an end were never summarised and are not included. TimescaleDB records microseconds since 1970.
 */
export const changedRanges = `(
  SELECT a.user_view_schema::text AS schema, a.user_view_name::text AS relation,
    to_timestamp(l.lowest_modified_value / 1e6) AS "from", to_timestamp(l.greatest_modified_value / 1e6) AS "to"
  FROM _timescaledb_catalog.continuous_agg a
  JOIN (
    SELECT NULL AS aggregate, hypertable_id AS hypertable, lowest_modified_value, greatest_modified_value
    FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log
    UNION ALL
    SELECT materialization_id, NULL, lowest_modified_value, greatest_modified_value
    FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log
  ) l ON l.aggregate = a.mat_hypertable_id OR l.hypertable = a.raw_hypertable_id
  WHERE l.lowest_modified_value > -9e18 AND l.greatest_modified_value < 9e18)`;

/** A subquery: chunk intervals, compression and `materializedOnly` of each relation, one row for each setting. */
export const relationSettings = `(
  SELECT hypertable_schema::text AS schema, hypertable_name::text AS relation, 'chunkInterval' AS setting, time_interval::text AS value
  FROM timescaledb_information.dimensions
  UNION ALL
  SELECT n.nspname, r.relname, setting, value FROM timescaledb_information.hypertable_compression_settings s
    JOIN pg_class r ON r.oid = s.hypertable JOIN pg_namespace n ON n.oid = r.relnamespace,
    LATERAL (VALUES ('compression.segmentBy', s.segmentby), ('compression.orderBy', replace(s.orderby, '"', ''))) AS v (setting, value)
  WHERE value IS NOT NULL
  UNION ALL
  SELECT view_schema, view_name, 'materializedOnly', materialized_only::text FROM timescaledb_information.continuous_aggregates)`;

/** Queries that return `name` and `definition`. The results show what a migration or an operator changed. */
export const definitionQueries = {
  hypertable: `SELECT h.hypertable_name AS name, concat_ws(' ', d.column_name, 'chunks of', d.time_interval,
        CASE WHEN h.compression_enabled THEN 'compressed' END) AS definition
    FROM timescaledb_information.hypertables h
    JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)`,
  compression: `SELECT hypertable::text AS name, concat_ws(' ', 'segment by', segmentby, 'order by', orderby) AS definition
    FROM timescaledb_information.hypertable_columnstore_settings`,
  aggregate: `SELECT view_name AS name, concat_ws(' ', view_definition, 'materialized only', materialized_only) AS definition
    FROM timescaledb_information.continuous_aggregates`,
  policy: `SELECT relation || ' ' || proc_name || coalesce(' until ' || (config ->> 'end_offset'), '') AS name,
      concat_ws(' ', 'every', schedule_interval, config - 'hypertable_id' - 'mat_hypertable_id') AS definition
    FROM ${policyJobs} AS j`,
} as const;

/** SQL condition: background workers can run jobs. The embedded TimescaleDB has no workers. */
export const hasWorkers = `current_setting('timescaledb.max_background_workers', true) IS NOT NULL`;
/** SQL expression: the number of scheduled jobs of this database, including those of TimescaleDB itself. */
export const scheduledJobs = '(SELECT count(*) FROM timescaledb_information.jobs WHERE scheduled)::int';
export const startWorkers = 'SELECT _timescaledb_functions.start_background_workers()';
export const stopWorkers = 'SELECT _timescaledb_functions.stop_background_workers()';

/** A statement that removes a policy, for an operator to run. */
export const deletePolicy = (relation: string, procedure: string): string =>
  `SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = '${procedure}' AND hypertable_name IN ` +
  `('${relation}', (SELECT materialization_hypertable_name FROM timescaledb_information.continuous_aggregates WHERE view_name = '${relation}'))`;

/** The schema of chunks and of the hidden hypertables. */
export const chunkSchema = '_timescaledb_internal';
/** The tables of chunks, as patterns for pg_dump. */
export const chunkPatterns = [`${chunkSchema}._hyper_*`, `${chunkSchema}.compress_hyper_*`];
/** The schema of the views of hypertables, jobs and policies. */
export const informationSchema = 'timescaledb_information';

/** SQL condition: the object with this oid in a system catalog, such as pg_proc, belongs to TimescaleDB. */
export const isOfTimescale = (catalog: string, oid: string): string => `EXISTS (
  SELECT FROM pg_depend e JOIN pg_extension x ON x.oid = e.refobjid AND x.extname = 'timescaledb'
  WHERE e.classid = '${catalog}'::regclass AND e.objid = ${oid}
    AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e')`;

// Builds a call that has all arguments with their types, so it cannot resolve to another function named alter_job.
const alterJob = `
  SELECT format('%I.alter_job(%%s%s)', n.nspname, string_agg(format(', NULL::%s', format_type(a.type, NULL)), '' ORDER BY a.position))
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, position)
  WHERE p.proname = 'alter_job' AND a.position > 1 AND ${isOfTimescale('pg_proc', 'p.oid')}
  GROUP BY p.oid, n.nspname LIMIT 1`;

/**
 * Returns a query for jobs whose owner is not the owner of their table. The query reads the catalog tables, because
 * the views omit what a role may not see.
 */
export async function foreignJobsQuery(db: Pick<Database, 'query'>): Promise<string> {
  const { rows } = await db.query<{ schema: string }>(
    `SELECT CASE WHEN to_regclass('_timescaledb_catalog.bgw_job') IS NULL THEN '_timescaledb_config' ELSE '_timescaledb_catalog' END AS schema`,
  );
  const table = `${rows[0]?.schema}.bgw_job`;
  return `SELECT j.id, j.owner::text, '${table}' AS table, format((${alterJob}), j.id) AS tell
    FROM ${table} j JOIN _timescaledb_catalog.hypertable h ON h.id = j.hypertable_id
    JOIN pg_class c ON c.oid = format('%I.%I', h.schema_name, h.table_name)::regclass
    WHERE j.owner <> c.relowner::regrole ORDER BY 1`;
}

/** The relation that stores the rows of a table or of a continuous aggregate. */
export interface Storage {
  readonly schema: string;
  readonly name: string;
  readonly isAggregate: boolean;
}

/** The time range of one chunk, as PostgreSQL's text, because a JavaScript date would drop microseconds. */
export interface ChunkRange {
  readonly column: string;
  readonly from: string;
  readonly to: string;
}

export const quoteStorage = ({ schema, name }: Storage): string =>
  `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/**
 * @returns the hidden hypertable of a continuous aggregate; undefined for any other relation. The hypertable lacks the
 * newest rows, which the view computes.
 */
export async function readAggregateStorage(
  db: Pick<Database, 'query'>,
  view: string,
): Promise<Storage | undefined> {
  const { rows } = await db.query<Storage>(
    `SELECT storage_schema AS schema, storage_name AS name, "isAggregate" FROM ${storedRelations} AS r
     WHERE "isAggregate" AND schema = 'public' AND name = $1`,
    [view],
  );
  return rows[0];
}

/**
 * Returns the table itself, or the hidden hypertable of a continuous aggregate.
 * @throws TimescaleMissingError for a view that is not a continuous aggregate.
 */
export async function readStorage(db: Database, key: DatabaseTarget, relation: Relation): Promise<Storage> {
  const name = nameOf(relation);
  if (is(relation, PgTable)) return { schema: 'public', name, isAggregate: false };
  const storage = await readAggregateStorage(db.primary, name);
  if (storage) return storage;
  throw new TimescaleMissingError(
    `${name} of ${db.name} is not a continuous aggregate: run "npm run db:check -- ${key}".`,
  );
}

/** Reads the chunks of a hypertable, oldest first. Empty for a relation that is not a hypertable. */
export async function readChunks(db: Database, { schema, name }: Storage): Promise<ChunkRange[]> {
  const { rows } = await db.primary.query<ChunkRange>(
    `SELECT primary_dimension AS column, range_start::text AS from, range_end::text AS to
     FROM ${chunks} AS c WHERE storage_schema = $1 AND storage_name = $2 ORDER BY range_start`,
    [schema, name],
  );
  return rows;
}

/** Makes the connected role, which must be a superuser, the owner of all jobs except TimescaleDB's own. */
export async function takeJobs(db: Database): Promise<void> {
  // The schema is _timescaledb_config before TimescaleDB 2.25, and _timescaledb_catalog from 2.25 on.
  const { rows } = await db.query<{ name: string }>(
    `SELECT c.oid::regclass::text AS name FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relname = 'bgw_job' AND c.relkind = 'r' AND starts_with(n.nspname, '_timescaledb_')`,
  );
  for (const { name } of rows) {
    await db.query(`UPDATE ${name} SET owner = current_user::regrole WHERE id >= 1000`);
  }
}
