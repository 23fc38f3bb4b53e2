// Findings about foreign keys without an index, and about invalid, duplicate and unused indexes.
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import type { Transaction } from '../../src/transaction.ts';
import { formatBytes, formatCount } from '../cli/output.ts';
import { type Check, error, type Found, onCatalogPath, warning } from './finding.ts';
import { thresholds } from './thresholds.ts';

export const indexChecks: readonly Check[] = [
  { name: 'foreign-keys', looksAt: 'foreign keys without an index', run: onCatalogPath(findUnindexed) },
  {
    name: 'invalid-indexes',
    looksAt: 'indexes that a broken CREATE INDEX CONCURRENTLY left',
    run: onCatalogPath(findInvalid),
  },
  { name: 'duplicate-indexes', looksAt: 'indexes that say the same', run: onCatalogPath(findDuplicates) },
  { name: 'unused-indexes', looksAt: 'large indexes that nothing reads', run: onCatalogPath(findUnused) },
];

const inMigration = 'in a migration that begins with "-- transaction: none", or it is drift';

// Excludes chunks of TimescaleDB, which have the indexes of their hypertable.
const ownTables = `
  SELECT c.oid, n.nspname, c.relname, c.reltuples FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^(pg_|_timescaledb|timescaledb_|toolkit_)'`;

// Whether an index is valid, not partial, and begins with the columns of a foreign key in any order.
const serves =
  '(i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey AND i.indpred IS NULL AND i.indisvalid';

async function findUnindexed(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ relation: string; constraint: string; columns: string }>(
    `SELECT format('%I.%I', t.nspname, t.relname) AS relation, f.conname AS "constraint",
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)
          FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, place)
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum) AS columns
     FROM pg_constraint f JOIN (${ownTables}) AS t ON t.oid = f.conrelid
     WHERE f.contype = 'f' AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = f.conrelid AND ${serves})
     ORDER BY 1, 2`,
  );
  return rows.map(({ relation, constraint, columns }) =>
    warning(
      `the foreign key ${constraint} of ${relation} has no index: each DELETE over there reads this whole table`,
      `CREATE INDEX CONCURRENTLY ON ${relation} (${columns})`,
      inMigration,
    ),
  );
}

async function findInvalid(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ name: string; relation: string }>(
    `SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS relation
     FROM pg_index i JOIN (${ownTables}) AS t ON t.oid = i.indrelid
     WHERE NOT i.indisvalid AND NOT EXISTS (
       SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
     ORDER BY 1`,
  );
  return rows.map(({ name, relation }) =>
    error(
      `the index ${name} of ${relation} is invalid: every write keeps it up, and no query uses it`,
      `REINDEX INDEX CONCURRENTLY ${name}`,
      `if nobody wants it: DROP INDEX CONCURRENTLY ${name}`,
    ),
  );
}

async function findDuplicates(db: Transaction): Promise<Found[]> {
  const { rows } = await db.query<{ relation: string; names: string[] }>(
    `SELECT i.indrelid::regclass::text AS relation,
       array_agg(i.indexrelid::regclass::text
         ORDER BY EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid) DESC, i.indisunique DESC, i.indexrelid) AS names
     FROM pg_index i JOIN (${ownTables}) AS t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
     WHERE i.indisvalid
     GROUP BY i.indrelid, x.relam, i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text,
       pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)
     HAVING count(*) > 1
       AND count(*) > count(*) FILTER (WHERE EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid))
     ORDER BY 1, 2`,
  );
  return rows.flatMap(({ relation, names: [kept, ...doubles] }) =>
    doubles.map((double) =>
      warning(
        `the index ${double} of ${relation} says the same as ${kept}: each write pays for both`,
        `DROP INDEX CONCURRENTLY ${double}`,
        inMigration,
      ),
    ),
  );
}

/** Ignores unique indexes and indexes for constraints or foreign keys: they are needed even if no query reads them. */
async function findUnused(db: Transaction): Promise<Found[]> {
  const { unusedIndex } = thresholds;
  const { rows } = await db.query<{
    schema: string;
    name: string;
    relation: string;
    bytes: number;
    rows: number;
  }>(
    `SELECT s.schemaname AS schema, s.indexrelname AS name, s.relid::regclass::text AS relation,
       pg_relation_size(s.indexrelid)::float8 AS bytes, greatest(t.reltuples, 0)::float8 AS rows
     FROM pg_stat_user_indexes s JOIN (${ownTables}) AS t ON t.oid = s.relid JOIN pg_index i USING (indexrelid)
     WHERE s.idx_scan = 0 AND i.indisvalid AND NOT i.indisunique
       AND t.reltuples >= $1 AND pg_relation_size(s.indexrelid) >= $2
       AND (SELECT coalesce(stats_reset, pg_postmaster_start_time()) FROM pg_stat_database WHERE datname = current_database())
         <= now() - make_interval(secs => $3)
       AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid)
       AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = i.indrelid AND ${serves})
     ORDER BY bytes DESC`,
    [unusedIndex.rows, unusedIndex.bytes, unusedIndex.statisticsFor],
  );
  return rows.map(({ schema, name, relation, bytes, rows: count }) =>
    warning(
      `nothing has read the index ${name} of ${relation} since the statistics began (${formatBytes(bytes)}, ${formatCount(count)} rows)`,
      `DROP INDEX CONCURRENTLY ${quoteIdentifier(schema)}.${quoteIdentifier(name)}`,
      `${inMigration}, and only if replicas do not read it either`,
    ),
  );
}
