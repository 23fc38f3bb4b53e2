// Reads the catalog of a database as sorted lines of text, so that two databases can be compared.

import type { Database, Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { definitionQueries } from '../../src/timescale/catalog.ts';

// Excludes schemas that our migrations do not manage, such as those of PostgreSQL and TimescaleDB.
const ownSchemas = `
  SELECT n.oid, n.nspname FROM pg_namespace n
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'drizzle')
    AND n.nspname !~ '^(_timescaledb|timescaledb_|toolkit_|pg_temp|pg_toast_temp)'`;

export const ownedByExtension = (catalog: string, oid: string) =>
  `EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = '${catalog}'::regclass AND d.objid = ${oid} AND d.deptype = 'e')`;

const ownRelations = `
  SELECT c.oid, c.relkind, c.relname, format('%I.%I', s.nspname, c.relname) AS name
  FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace WHERE NOT ${ownedByExtension('pg_class', 'c.oid')}`;

// One line per grantee, so that a difference names the role. A null ACL means the default privileges.
// Owners differ between servers, so all of them are called OWNER.
const grantsOf = (object: string, acl: string, owner: string, from: string) => `
  SELECT g.grantee || ' on ' || g.object AS name, string_agg(g.privilege, ', ' ORDER BY g.privilege) AS definition
  FROM (
    SELECT ${object} AS object, e.privilege_type || CASE WHEN e.is_grantable THEN ' with grant option' ELSE '' END AS privilege,
      CASE e.grantee WHEN 0 THEN 'PUBLIC' WHEN ${owner} THEN 'OWNER' ELSE e.grantee::regrole::text END AS grantee
    FROM ${from}, aclexplode(${acl}) AS e
  ) AS g GROUP BY g.grantee, g.object`;

const queries = {
  extension: `SELECT extname AS name, '' AS definition FROM pg_extension`,
  schema: `SELECT nspname AS name, coalesce(obj_description(s.oid, 'pg_namespace'), '') AS definition FROM schemas s`,
  relation: `SELECT own.name, concat_ws(' ', CASE own.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table'
        WHEN 'S' THEN 'sequence' WHEN 'm' THEN 'materialized view ' || pg_get_viewdef(own.oid) ELSE 'view ' || pg_get_viewdef(own.oid) END,
        CASE WHEN c.relrowsecurity THEN 'row security' END, CASE WHEN c.relforcerowsecurity THEN 'forced' END,
        array_to_string(c.reloptions, ' ')) AS definition
    FROM own JOIN pg_class c USING (oid) WHERE own.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')`,
  sequence: `SELECT own.name, concat_ws(' ', format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcycle) AS definition
    FROM own JOIN pg_sequence q ON q.seqrelid = own.oid`,
  column: `SELECT own.name || '.' || quote_ident(a.attname) AS name,
      concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
        CASE WHEN a.attidentity <> '' THEN concat('identity ', a.attidentity) END, CASE WHEN a.attgenerated <> '' THEN 'generated' END,
        'default ' || pg_get_expr(d.adbin, d.adrelid)) AS definition
    FROM own JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = own.oid AND d.adnum = a.attnum
    WHERE own.relkind IN ('r', 'p', 'f', 'v', 'm')`,
  constraint: `SELECT own.name || '.' || quote_ident(conname) AS name, pg_get_constraintdef(c.oid) AS definition
    FROM own JOIN pg_constraint c ON c.conrelid = own.oid WHERE c.contype <> 'n'`,
  index: `SELECT own.name, pg_get_indexdef(own.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END AS definition
    FROM own JOIN pg_index i ON i.indexrelid = own.oid`,
  trigger: `SELECT own.name || '.' || quote_ident(tgname) AS name, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')) AS definition
    FROM own JOIN pg_trigger t ON t.tgrelid = own.oid WHERE NOT t.tgisinternal`,
  rowpolicy: `SELECT own.name || '.' || quote_ident(polname) AS name, concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::regrole[]::text,
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS definition
    FROM own JOIN pg_policy p ON p.polrelid = own.oid`,
  function: `SELECT quote_ident(s.nspname) || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name,
      concat_ws(' ', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE 'aggregate' END,
        obj_description(p.oid, 'pg_proc')) AS definition
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace WHERE NOT ${ownedByExtension('pg_proc', 'p.oid')}`,
  type: `SELECT format('%I.%I', s.nspname, t.typname) AS name, concat_ws(' ', t.typtype, format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typdefault,
        (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
        (SELECT string_agg(pg_get_constraintdef(c.oid), ' ' ORDER BY c.conname) FROM pg_constraint c WHERE c.contypid = t.oid),
        (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
           FROM pg_attribute a WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped)) AS definition
    FROM pg_type t JOIN schemas s ON s.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c') AND NOT ${ownedByExtension('pg_type', 't.oid')}`,
  comment: `SELECT own.name || coalesce('.' || a.attname, '') AS name, d.description AS definition
    FROM own JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = own.oid
    LEFT JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum = d.objsubid AND d.objsubid > 0`,
  rule: `SELECT own.name || '.' || quote_ident(r.rulename) AS name, concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled) AS definition
    FROM own JOIN pg_rewrite r ON r.ev_class = own.oid WHERE r.rulename <> '_RETURN'`,
  statistics: `SELECT format('%I.%I', s.nspname, x.stxname) AS name, pg_get_statisticsobjdef(x.oid) AS definition
    FROM pg_statistic_ext x JOIN schemas s ON s.oid = x.stxnamespace`,
  eventtrigger: `SELECT quote_ident(t.evtname) AS name, concat_ws(' ', t.evtevent, array_to_string(t.evttags, ','), t.evtfoid::regproc, t.evtenabled) AS definition
    FROM pg_event_trigger t WHERE NOT ${ownedByExtension('pg_event_trigger', 't.oid')}`,
} as const;

const grantQueries = {
  relation: grantsOf(
    `CASE own.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || own.name`,
    `coalesce(c.relacl, acldefault(CASE own.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner))`,
    'c.relowner',
    `own JOIN pg_class c ON c.oid = own.oid AND own.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')`,
  ),
  column: grantsOf(
    `'COLUMN ' || own.name || '.' || quote_ident(a.attname)`,
    'a.attacl',
    'c.relowner',
    'own JOIN pg_class c ON c.oid = own.oid JOIN pg_attribute a ON a.attrelid = own.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped',
  ),
  schema: grantsOf(
    `'SCHEMA ' || quote_ident(n.nspname)`,
    `coalesce(n.nspacl, acldefault('n', n.nspowner))`,
    'n.nspowner',
    'schemas s JOIN pg_namespace n ON n.oid = s.oid',
  ),
  function: grantsOf(
    `'ROUTINE ' || quote_ident(s.nspname) || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')'`,
    `coalesce(p.proacl, acldefault('f', p.proowner))`,
    'p.proowner',
    `pg_proc p JOIN schemas s ON s.oid = p.pronamespace AND NOT ${ownedByExtension('pg_proc', 'p.oid')}`,
  ),
  default: `SELECT g.grantee || ' by default on ' || g.kind AS name, string_agg(g.privilege, ', ' ORDER BY g.privilege) AS definition
    FROM (
      SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END
          || coalesce(' IN SCHEMA ' || quote_ident(s.nspname), '') AS kind,
        e.privilege_type AS privilege,
        CASE e.grantee WHEN 0 THEN 'PUBLIC' WHEN d.defaclrole THEN 'OWNER' ELSE e.grantee::regrole::text END AS grantee
      FROM pg_default_acl d LEFT JOIN schemas s ON s.oid = d.defaclnamespace, aclexplode(d.defaclacl) AS e
    ) AS g GROUP BY g.grantee, g.kind`,
} as const;

/** Returns sorted lines such as `column public.users.email: character varying(255) not null`. */
export const readCatalog = (db: Pool): Promise<string[]> =>
  withCatalogPath(db, catalogLines, { isolation: 'repeatable read', readOnly: true });

/** Like `readCatalog`, but in the caller's session. That session's search_path decides which names are qualified. */
export async function catalogLines(db: Database): Promise<string[]> {
  const lines = [...(await readAll(db, queries)), ...(await readGrants(db))];
  if (lines.some((line) => line.startsWith('extension timescaledb:'))) {
    lines.push(...(await readAll(db, definitionQueries)));
  }
  // The numbers of internal hypertables depend on history, not on structure.
  return lines.map((line) => line.replace(/(_materialized_hypertable_|cagg_watermark\()\d+/g, '$1')).sort();
}

async function readGrants(db: Database): Promise<string[]> {
  const lines = await readAll(db, grantQueries);
  return lines.map((line) => line.replace(/^[a-z]+/, 'grant'));
}

async function readAll(db: Database, kinds: Readonly<Record<string, string>>): Promise<string[]> {
  const lines: string[] = [];
  for (const [kind, query] of Object.entries(kinds)) {
    const { rows } = await db.query<{ name: string; definition: string }>(
      `WITH schemas AS (${ownSchemas}), own AS (${ownRelations}) SELECT name, definition FROM (${query}) AS q`,
    );
    lines.push(...rows.map(({ name, definition }) => `${kind} ${name}: ${definition}`));
  }
  return lines;
}

/** One sentence for each line that only one of two catalogs has. @param what The subject of the sentences. */
export function differences(what: string, wanted: readonly string[], found: readonly string[]): string[] {
  const [inWanted, inFound] = [new Set(wanted), new Set(found)];
  const missing = wanted
    .filter((line) => !inFound.has(line))
    .map((line) => `${what} does not restore ${line}`);
  const extra = found.filter((line) => !inWanted.has(line)).map((line) => `${what} leaves ${line}`);
  return [...missing, ...extra];
}
