// Reads the state of access from the live catalog: owners, grants, default privileges, roles, memberships.
import {
  chunkSchema,
  foreignJobsQuery,
  readTimescale,
  storedRelations,
} from '../../src/timescale/catalog.ts';
import type { Transaction } from '../../src/transaction.ts';
import { ownedByExtension } from '../catalog/catalog.ts';
import { extensionGrantsQuery, extensionObjectsQuery } from './extension.ts';
import { exploded, type Grant, granteeName } from './grant.ts';
import type { LiveAccess, LiveRelation, LiveRoutine, OwnedObject } from './live-access.ts';
import { type DatabaseAccess, matrixRoles, readersOf, relationName } from './matrix.ts';
import { policiesQuery, viewsQuery } from './row-policies.ts';
import {
  foreignGrantsQuery,
  foreignServersQuery,
  largeObjectsQuery,
  reachableQuery,
  serverGrantsQuery,
} from './server-grants.ts';

// Excludes objects of extensions, which set their own grants. extension.ts reads the grants on TimescaleDB's objects.
const ownSchemas = `
  SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n
  WHERE n.nspname !~ '^(pg_|_timescaledb_|timescaledb_|toolkit_)' AND n.nspname <> 'information_schema'
    AND NOT ${ownedByExtension('pg_namespace', 'n.oid')}`;
const ownRelations = `
  SELECT c.*, s.nspname FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT ${ownedByExtension('pg_class', 'c.oid')}`;
// PostgreSQL creates the constructor functions of a range type. pg_dump omits their grants and settings.
const isConstructor = `EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid
  AND i.refclassid = 'pg_type'::regclass AND i.deptype = 'i')`;
const ownRoutines = `
  SELECT p.*, s.nspname, ${isConstructor} AS constructs, format('ROUTINE %I.%I(%s)', s.nspname, p.proname,
    pg_get_function_identity_arguments(p.oid)) AS target
  FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace WHERE NOT ${ownedByExtension('pg_proc', 'p.oid')}`;
const own = `WITH schemas AS (${ownSchemas}), relations AS (${ownRelations}), routines AS (${ownRoutines})`;

/** The current state of everything that the matrix covers. Read-only; requires a transaction of `withCatalogPath`. */
export async function readAccess(db: Transaction, matrix: DatabaseAccess): Promise<LiveAccess> {
  const roles = matrixRoles(matrix);
  const [database = ''] = await names(db, 'SELECT current_database() AS name');
  const timescale = await readTimescale(db);
  const aggregates = timescale
    ? `(SELECT format('%I.%I', schema, name) FROM ${storedRelations} AS r WHERE "isAggregate")`
    : `(SELECT '' WHERE false)`;
  const relations = await rows<LiveRelation>(db, relationsQuery(aggregates));
  const routines = await rows<LiveRoutine>(db, routinesQuery);
  const everybody = ['PUBLIC', ...roles];
  return {
    database,
    relations,
    routines,
    objects: [
      ...(await rows<OwnedObject>(db, objectsQuery)),
      ...relations.filter(ownsItself),
      ...routines.filter(({ constructs }) => !constructs),
    ],
    grants: [
      ...(await rows<Grant>(db, grantsQuery)),
      ...(await rows<Grant>(db, defaultsQuery, [matrix.owner])),
      ...(await rows<Grant>(db, systemGrantsQuery, [everybody])),
      ...(await rows<Grant>(db, foreignGrantsQuery)),
      ...(await rows<Grant>(db, serverGrantsQuery, [everybody])),
      ...(timescale ? await rows<Grant>(db, chunkGrantsQuery, [readersOf(matrix.access)]) : []),
      ...(timescale ? await rows<Grant>(db, extensionGrantsQuery, [everybody]) : []),
    ],
    roles: await rows(db, rolesQuery, [roles]),
    memberships: await rows(db, membershipsQuery, [roles]),
    settings: await rows(db, settingsQuery, [roles]),
    policies: await rows(db, policiesQuery),
    views: await rows(db, viewsQuery, [namedSchemas(matrix)]),
    jobs: timescale ? await rows(db, await foreignJobsQuery(db)) : [],
    brokenPaths: await names(db, brokenPathsQuery),
    extensionObjects: timescale ? await rows(db, extensionObjectsQuery) : [],
    foreignServers: await rows(db, foreignServersQuery),
    reachable: await names(db, reachableQuery),
    largeObjects: await names(db, largeObjectsQuery),
  };
}

async function rows<Row extends object>(
  db: Transaction,
  text: string,
  parameters: readonly unknown[] = [],
): Promise<Row[]> {
  return (await db.query<Row>(text, parameters)).rows;
}

const names = async (db: Transaction, text: string) =>
  (await rows<{ name: string }>(db, text)).map(({ name }) => name);

// A sequence owned by a column always has the owner of the column's table. ALTER SEQUENCE … OWNER TO fails.
const ownsItself = ({ relkind, options }: LiveRelation) =>
  relkind !== 'S' || !options.includes('of a column');

const namedSchemas = ({ access }: DatabaseAccess) => [
  ...new Set(
    access.flatMap(({ relations = [] }) => relations.map(([one]) => relationName(one).split('.')[0])),
  ),
];

const relationsQuery = (aggregates: string) => `${own}
  SELECT 'relation' AS kind, c.nspname AS schema, c.relname AS name, c.relkind::text AS relkind,
    CASE WHEN c.relkind = 'm' OR format('%I.%I', c.nspname, c.relname) IN ${aggregates} THEN 'MATERIALIZED VIEW'
      WHEN c.relkind = 'v' THEN 'VIEW' WHEN c.relkind = 'S' THEN 'SEQUENCE'
      WHEN c.relkind = 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END || format(' %I.%I', c.nspname, c.relname) AS target,
    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || format(' %I.%I', c.nspname, c.relname) AS "grantTarget",
    pg_get_userbyid(c.relowner)::text AS owner, c.relrowsecurity AS "rowSecurity",
    coalesce(c.reloptions, '{}') || CASE WHEN EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
      AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')) THEN '{of a column}' ELSE '{}' END::text[] AS options,
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
  FROM relations c ORDER BY 2, 3`;

const routinesQuery = `${own}
  SELECT 'routine' AS kind, nspname AS schema, proname AS name, target, pg_get_userbyid(proowner)::text AS owner,
    constructs, prosecdef AS "ownersRights", EXISTS (SELECT 1 FROM unnest(proconfig) AS setting WHERE setting LIKE 'search_path=%')
      OR NOT prosecdef AND (prokind = 'a' OR prosqlbody IS NOT NULL
        OR prolang IN (SELECT oid FROM pg_language WHERE lanname IN ('internal', 'c'))) AS settled
  FROM routines ORDER BY target`;

// Finds the harmful paths that earlier versions of `apply` set: a procedure with SET cannot COMMIT, and pg_dump omits
// the settings of constructors.
const brokenPathsQuery = `${own}
  SELECT target AS name FROM routines
  WHERE proconfig = ARRAY[format('search_path=pg_catalog, %I, pg_temp', nspname)]
    AND (prokind = 'p' AND NOT prosecdef OR constructs) ORDER BY 1`;

const objectsQuery = `${own}
  SELECT 'database' AS kind, '' AS schema, datname AS name, format('DATABASE %I', datname) AS target, pg_get_userbyid(datdba)::text AS owner
  FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT 'schema', '', nspname, format('SCHEMA %I', nspname), pg_get_userbyid(nspowner) FROM schemas
  UNION ALL SELECT 'type', s.nspname, t.typname, format('TYPE %I.%I', s.nspname, t.typname), pg_get_userbyid(t.typowner)
  FROM pg_type t JOIN schemas s ON s.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
  WHERE (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c') AND NOT ${ownedByExtension('pg_type', 't.oid')}
  ORDER BY 1, 4`;

const grantsQuery = `${own}
  SELECT '' AS "defaultPrivilegesOf", '' AS "inSchema", format('DATABASE %I', datname) AS target, '' AS "column", g.*
  FROM pg_database d, ${exploded("coalesce(datacl, acldefault('d', datdba))", 'datdba')} WHERE datname = current_database()
  UNION ALL SELECT '', '', format('SCHEMA %I', nspname), '', g.* FROM schemas, ${exploded('nspacl', 'nspowner')}
  UNION ALL SELECT '', '', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || format(' %I.%I', nspname, relname), '', g.*
  FROM relations, ${exploded('relacl', 'relowner')}
  UNION ALL SELECT '', '', format('TABLE %I.%I', c.nspname, c.relname), a.attname, g.*
  FROM relations c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped, ${exploded('a.attacl', 'c.relowner')}
  UNION ALL SELECT '', '', target, '', g.* FROM routines, ${exploded("coalesce(proacl, acldefault('f', proowner))", 'proowner')}`;

// Omits SELECT granted to the roles in $1: they read every table, and chunks copy the grants of their hypertable.
const chunkGrantsQuery = `
  SELECT '' AS "defaultPrivilegesOf", '' AS "inSchema", format('TABLE %I.%I', n.nspname, c.relname) AS target, '' AS "column", g.*
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, ${exploded('c.relacl', 'c.relowner')}
  WHERE n.nspname = '${chunkSchema}' AND NOT ${ownedByExtension('pg_class', 'c.oid')}
    AND NOT (g.privilege = 'SELECT' AND NOT g.grantable AND g.grantee = ANY ($1::text[]))
  UNION ALL SELECT '', '', format('TABLE %I.%I', n.nspname, c.relname), a.attname, g.*
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid,
    ${exploded('a.attacl', 'c.relowner')}
  WHERE n.nspname = '${chunkSchema}' AND NOT ${ownedByExtension('pg_class', 'c.oid')}`;

// Omits the grants of initdb and of extensions: they are in pg_init_privs or are PostgreSQL's default.
const systemGrantsQuery = `
  SELECT '' AS "defaultPrivilegesOf", '' AS "inSchema", o.target, o.column, g.*
  FROM (
    SELECT 'pg_proc'::regclass::oid AS class, oid, 0 AS sub, '' AS "column", proacl AS acl, proowner AS owner, acldefault('f', proowner) AS initial,
      'ROUTINE pg_catalog.' || quote_ident(proname) || '(' || pg_get_function_identity_arguments(oid) || ')' AS target
    FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proacl IS NOT NULL
    UNION ALL SELECT 'pg_class'::regclass, oid, 0, '', relacl, relowner, NULL, format('TABLE pg_catalog.%I', relname)
    FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relacl IS NOT NULL
    UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum, a.attname, a.attacl, c.relowner, NULL, format('TABLE pg_catalog.%I', c.relname)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'pg_catalog'::regnamespace AND a.attacl IS NOT NULL
  ) AS o LEFT JOIN pg_init_privs i ON (i.classoid, i.objoid, i.objsubid) = (o.class, o.oid, o.sub), ${exploded('o.acl', 'o.owner')}
  WHERE g.grantee = ANY ($1::text[]) AND NOT EXISTS (
    SELECT 1 FROM (SELECT ${granteeName} AS name, g.privilege_type FROM aclexplode(coalesce(i.initprivs, o.initial)) AS g) AS b
    WHERE b.name = g.grantee AND b.privilege_type = g.privilege)`;

// Without an entry for the owner ($1), PostgreSQL's default applies: PUBLIC may execute new functions. Entries of other
// roles contain this default too, so it is not reported for them.
const defaultsQuery = `
  SELECT o.rolname AS "defaultPrivilegesOf", coalesce(n.nspname, '') AS "inSchema",
    CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
      WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS target, '' AS "column", g.*
  FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
    ${exploded('d.defaclacl', 'd.defaclrole')}
  WHERE NOT (d.defaclnamespace = 0 AND g.grantee = 'PUBLIC'
    AND (d.defaclobjtype = 'T' OR d.defaclobjtype = 'f' AND o.rolname <> $1))
  UNION ALL SELECT o.rolname, '', 'FUNCTIONS', '', 'PUBLIC', 'EXECUTE', false
  FROM pg_roles o WHERE o.rolname = $1 AND NOT EXISTS (
    SELECT 1 FROM pg_default_acl d WHERE d.defaclrole = o.oid AND d.defaclnamespace = 0 AND d.defaclobjtype = 'f')`;

const rolesQuery = `
  SELECT rolname AS name, array_remove(ARRAY[
    CASE WHEN NOT rolcanlogin THEN 'LOGIN' END, CASE WHEN NOT rolinherit THEN 'INHERIT' END,
    CASE WHEN rolsuper THEN 'NOSUPERUSER' END, CASE WHEN rolcreatedb THEN 'NOCREATEDB' END,
    CASE WHEN rolcreaterole THEN 'NOCREATEROLE' END, CASE WHEN rolreplication THEN 'NOREPLICATION' END,
    CASE WHEN rolbypassrls THEN 'NOBYPASSRLS' END, CASE WHEN rolconnlimit <> -1 THEN 'CONNECTION LIMIT -1' END,
    CASE WHEN rolvaliduntil < 'infinity' THEN 'VALID UNTIL ''infinity''' END], NULL) AS "wrongAttributes"
  FROM pg_roles WHERE rolname = ANY ($1::text[])`;

// Ignores superusers and members with CREATEROLE: they apply the matrix and could grant themselves access anyway.
const membershipsQuery = `
  SELECT r.rolname AS role, m.rolname AS member, g.rolname AS grantor
  FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
  JOIN pg_roles g ON g.oid = a.grantor
  WHERE m.rolname = ANY ($1::text[]) OR (r.rolname = ANY ($1::text[]) AND NOT m.rolsuper AND NOT m.rolcreaterole)
  ORDER BY 1, 2`;

const settingsQuery = `
  SELECT coalesce(r.rolname, '') AS role, d.oid IS NOT NULL AS here,
    split_part(entry, '=', 1) AS name, substr(entry, strpos(entry, '=') + 1) AS value
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database(), unnest(s.setconfig) AS entry
  WHERE (d.oid IS NOT NULL OR s.setdatabase = 0) AND (r.rolname = ANY ($1::text[]) OR s.setrole = 0)
    AND (split_part(entry, '=', 1) IN ('search_path', 'role', 'row_security')
      OR split_part(entry, '=', 1) = 'default_transaction_read_only' AND d.oid IS NOT NULL AND r.oid IS NOT NULL)`;
