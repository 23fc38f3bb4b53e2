// Reads the catalog of a database as sorted lines of text, so that two databases can be compared.
import type { Database } from '../pool.ts';

// Objects of extensions and of TimescaleDB's internal schemas are theirs to change, not ours.
const ownRelations = `
  SELECT c.oid, c.relkind, c.relname, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'drizzle')
    AND n.nspname !~ '^(_timescaledb|timescaledb_|toolkit_|pg_temp|pg_toast_temp)'
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`;

const queries = {
  extension: `SELECT extname AS name, '' AS definition FROM pg_extension`,
  relation: `SELECT name, CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view ' || pg_get_viewdef(oid) ELSE relkind::text END AS definition
    FROM own WHERE relkind IN ('r', 'p', 'v', 'm', 'S')`,
  column: `SELECT own.name || '.' || a.attname AS name,
      concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
        'default ' || pg_get_expr(d.adbin, d.adrelid)) AS definition
    FROM own JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = own.oid AND d.adnum = a.attnum
    WHERE own.relkind IN ('r', 'p', 'v', 'm')`,
  constraint: `SELECT own.name || '.' || conname AS name, pg_get_constraintdef(c.oid) AS definition
    FROM own JOIN pg_constraint c ON c.conrelid = own.oid WHERE c.contype <> 'n'`,
  index: `SELECT own.name, pg_get_indexdef(own.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END AS definition
    FROM own JOIN pg_index i ON i.indexrelid = own.oid`,
  trigger: `SELECT own.name || '.' || tgname AS name, pg_get_triggerdef(t.oid) AS definition
    FROM own JOIN pg_trigger t ON t.tgrelid = own.oid WHERE NOT t.tgisinternal`,
  function: `SELECT n.nspname || '.' || p.oid::regprocedure AS name, pg_get_functiondef(p.oid) AS definition
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND p.prokind IN ('f', 'p')
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')`,
  enum: `SELECT t.oid::regtype::text AS name, string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) AS definition
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.oid`,
  comment: `SELECT own.name || coalesce('.' || a.attname, '') AS name, d.description AS definition
    FROM own JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = own.oid
    LEFT JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum = d.objsubid AND d.objsubid > 0
    UNION ALL SELECT p.oid::regprocedure::text, d.description FROM pg_proc p
    JOIN pg_description d ON d.classoid = 'pg_proc'::regclass AND d.objoid = p.oid WHERE p.pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')`,
  grant: `SELECT own.name || ' to ' || coalesce(nullif(g.grantee, 0)::regrole::text, 'PUBLIC') AS name, string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type) AS definition
    FROM own JOIN pg_class c ON c.oid = own.oid, aclexplode(c.relacl) g GROUP BY own.name, g.grantee`,
} as const;

const timescaleQueries = {
  hypertable: `SELECT h.hypertable_name AS name, concat_ws(' ', d.column_name, 'chunks of', d.time_interval,
        CASE WHEN h.compression_enabled THEN 'compressed' END) AS definition
    FROM timescaledb_information.hypertables h
    JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)`,
  compression: `SELECT hypertable_name || '.' || attname AS name,
      concat_ws(' ', 'segment', segmentby_column_index, 'order', orderby_column_index, orderby_asc, orderby_nullsfirst) AS definition
    FROM timescaledb_information.compression_settings`,
  aggregate: `SELECT view_name AS name, concat_ws(' ', view_definition, 'materialized only', materialized_only) AS definition
    FROM timescaledb_information.continuous_aggregates`,
  policy: `SELECT coalesce(c.view_name, j.hypertable_name) || ' ' || j.proc_name AS name,
      concat_ws(' ', 'every', j.schedule_interval, j.config - 'hypertable_id' - 'mat_hypertable_id') AS definition
    FROM timescaledb_information.jobs j
    LEFT JOIN timescaledb_information.continuous_aggregates c
      ON (c.materialization_hypertable_schema, c.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name)
    WHERE j.hypertable_name IS NOT NULL`,
} as const;

/** Lines such as `column public.users.email: character varying(255) not null`, sorted. */
export async function readCatalog(db: Database): Promise<string[]> {
  const lines = await readAll(db, queries);
  if (lines.some((line) => line.startsWith('extension timescaledb:'))) {
    lines.push(...(await readAll(db, timescaleQueries)));
  }
  // The numbers of internal hypertables depend on history, not on structure.
  return lines.map((line) => line.replace(/(_materialized_hypertable_|cagg_watermark\()\d+/g, '$1')).sort();
}

async function readAll(db: Database, kinds: Readonly<Record<string, string>>): Promise<string[]> {
  const lines: string[] = [];
  for (const [kind, query] of Object.entries(kinds)) {
    const { rows } = await db.query<{ name: string; definition: string }>(
      `WITH own AS (${ownRelations}) SELECT name, definition FROM (${query}) AS q`,
    );
    lines.push(...rows.map(({ name, definition }) => `${kind} ${name}: ${definition}`));
  }
  return lines;
}
