// Reads what a database says of itself: version, tables, and TimescaleDB's chunks and policies.

import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { timescaleSchema } from '../../src/timescale/timescale.ts';
import type { Transaction } from '../../src/transaction.ts';

export interface DatabaseFacts {
  serverVersion: string;
  extensions: { name: string; version: string }[];
  bytes: number;
  /** Row counts are the planner's estimates. */
  tables: { name: string; rows: number; bytes: number }[];
  /** Only where TimescaleDB is enabled. */
  timescale?: {
    hypertables: { name: string; chunks: number; compressedChunks: number; bytes: number }[];
    policies: {
      job: number;
      policy: string;
      relation: string;
      settings: Record<string, string>;
      every: string;
      lastRun: string | null;
      lastResult: string | null;
      nextRun: string | null;
    }[];
  };
}

export const readFacts = (pool: Pool): Promise<DatabaseFacts> =>
  withCatalogPath(pool, readAll, { isolation: 'repeatable read', readOnly: true });

async function readAll(db: Transaction): Promise<DatabaseFacts> {
  const { rows } = await db.query<DatabaseFacts>(
    `SELECT current_setting('server_version') AS "serverVersion",
       pg_database_size(current_database())::float8 AS bytes,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', extname, 'version', extversion) ORDER BY extname), '[]')
          FROM pg_extension WHERE extname <> 'plpgsql') AS extensions,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', relname, 'rows', greatest(reltuples, 0), 'bytes',
                 pg_total_relation_size(oid)) ORDER BY relname), '[]')
          FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')) AS tables`,
  );
  const facts = rows[0] as DatabaseFacts;
  const schema = await timescaleSchema(db);
  if (schema === undefined) return facts;
  return {
    ...facts,
    timescale: { hypertables: await readHypertables(db, schema), policies: await readPolicies(db) },
  };
}

async function readHypertables(db: Transaction, schema: string) {
  const { rows } = await db.query<NonNullable<DatabaseFacts['timescale']>['hypertables'][number]>(
    `SELECT relation AS name,
       count(c.chunk_name)::int AS chunks,
       (count(*) FILTER (WHERE c.is_compressed))::int AS "compressedChunks",
       coalesce(${schema}.hypertable_size(format('%I.%I', hypertable_schema, hypertable_name)::regclass), 0)::float8 AS bytes
     FROM (
       SELECT hypertable_schema, hypertable_name, hypertable_name AS relation FROM timescaledb_information.hypertables
       UNION ALL
       SELECT materialization_hypertable_schema, materialization_hypertable_name, view_name
       FROM timescaledb_information.continuous_aggregates
     ) h
     LEFT JOIN timescaledb_information.chunks c USING (hypertable_schema, hypertable_name)
     GROUP BY hypertable_schema, hypertable_name, relation
     ORDER BY relation`,
  );
  return rows;
}

async function readPolicies(db: Transaction) {
  const { rows } = await db.query<NonNullable<DatabaseFacts['timescale']>['policies'][number]>(
    `SELECT j.job_id AS job,
       replace(replace(j.proc_name, 'policy_', ''), '_', ' ') AS policy,
       coalesce(c.view_name, j.hypertable_name) AS relation,
       coalesce((SELECT jsonb_object_agg(replace(key, '_', ' '), value) FROM jsonb_each_text(j.config)
                 WHERE key NOT IN ('hypertable_id', 'mat_hypertable_id')), '{}') AS settings,
       j.schedule_interval::text AS every,
       to_char(nullif(s.last_run_started_at, '-infinity'), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "lastRun",
       s.last_run_status AS "lastResult",
       to_char(nullif(s.next_start, '-infinity'), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "nextRun"
     FROM timescaledb_information.jobs j
     LEFT JOIN timescaledb_information.job_stats s USING (job_id)
     LEFT JOIN timescaledb_information.continuous_aggregates c
       ON (c.materialization_hypertable_schema, c.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name)
     WHERE j.hypertable_name IS NOT NULL
     ORDER BY relation, policy, job`,
  );
  return rows;
}
