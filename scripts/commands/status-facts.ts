// Reads what a database says of itself: version, tables, and TimescaleDB's chunks and policies.

import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { chunks, policyJobs, readTimescale, storedRelations } from '../../src/timescale/catalog.ts';
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
  const timescale = await readTimescale(db);
  if (!timescale) return facts;
  return {
    ...facts,
    timescale: { hypertables: await readHypertables(db, timescale.schema), policies: await readPolicies(db) },
  };
}

async function readHypertables(db: Transaction, schema: string) {
  const { rows } = await db.query<NonNullable<DatabaseFacts['timescale']>['hypertables'][number]>(
    `SELECT r.name, count(c.chunk_name)::int AS chunks,
       (count(*) FILTER (WHERE c.is_compressed))::int AS "compressedChunks",
       coalesce(${schema}.hypertable_size(format('%I.%I', storage_schema, storage_name)::regclass), 0)::float8 AS bytes
     FROM ${storedRelations} AS r LEFT JOIN ${chunks} AS c USING (storage_schema, storage_name)
     GROUP BY storage_schema, storage_name, r.name
     ORDER BY r.name`,
  );
  return rows;
}

async function readPolicies(db: Transaction) {
  const { rows } = await db.query<NonNullable<DatabaseFacts['timescale']>['policies'][number]>(
    `SELECT j.job_id AS job,
       replace(replace(j.proc_name, 'policy_', ''), '_', ' ') AS policy,
       j.relation,
       coalesce((SELECT jsonb_object_agg(replace(key, '_', ' '), value) FROM jsonb_each_text(j.config)
                 WHERE key NOT IN ('hypertable_id', 'mat_hypertable_id')), '{}') AS settings,
       j.schedule_interval::text AS every,
       to_char(nullif(j.last_run_started_at, '-infinity'), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "lastRun",
       j.last_run_status AS "lastResult",
       to_char(nullif(j.next_start, '-infinity'), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "nextRun"
     FROM ${policyJobs} AS j
     ORDER BY relation, policy, job`,
  );
  return rows;
}
