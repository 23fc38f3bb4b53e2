// Grants on TimescaleDB's own objects. The extension opens them to PUBLIC, and few of its functions check privileges.
import { informationSchema, isOfTimescale } from '../../src/timescale/catalog.ts';
import { exploded, type Grant, grant } from './grant.ts';
import type { ExtensionObject } from './live-access.ts';
import { type Access, extensionFunctions, readersOf } from './matrix.ts';

const informs = `EXISTS (SELECT FROM pg_depend r JOIN pg_rewrite w ON r.classid = 'pg_rewrite'::regclass AND w.oid = r.objid
  JOIN pg_class v ON v.oid = w.ev_class JOIN pg_namespace i ON i.oid = v.relnamespace AND i.nspname = '${informationSchema}'
  WHERE r.refclassid = 'pg_proc'::regclass AND r.refobjid = p.oid)`;

const objects = `
  SELECT *, CASE kind WHEN 'ROUTINE' THEN 'routines' WHEN 'TABLE' THEN 'tables and views' ELSE 'sequences' END
    || ' of TimescaleDB' AS bundle
  FROM (
    SELECT 'ROUTINE' AS kind, p.proname::text AS name, format('ROUTINE %I.%I(%s)', n.nspname, p.proname,
      pg_get_function_identity_arguments(p.oid)) AS target, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl, p.proowner AS owner, ${informs} AS informs
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ${isOfTimescale('pg_proc', 'p.oid')}
    UNION ALL SELECT k.kind, c.relname, format('%s %I.%I', k.kind, n.nspname, c.relname), c.relacl, c.relowner, n.nspname = '${informationSchema}'
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
      LATERAL (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END) AS k (kind)
    WHERE c.relkind IN ('r', 'v', 'S') AND ${isOfTimescale('pg_class', 'c.oid')}) AS o`;

export const extensionObjectsQuery = `SELECT kind, name, target, bundle, informs FROM (${objects}) AS o ORDER BY target`;

/** Reads the grants on TimescaleDB's objects to the grantees in $1. */
export const extensionGrantsQuery = `
  SELECT '' AS "defaultPrivilegesOf", '' AS "inSchema", o.target, '' AS "column", g.*, o.bundle
  FROM (${objects}) AS o, ${exploded('o.acl', 'o.owner')} WHERE g.grantee = ANY ($1::text[]) ORDER BY o.target`;

/**
 * PUBLIC may execute `extensionFunctions`. Only the owner may execute other functions and read TimescaleDB's catalog,
 * which shows row counts of all applications. Roles that read every table may also use the information views and the
 * functions that these views call.
 */
export function extensionGrants(
  rules: readonly Access[],
  objects: readonly ExtensionObject[],
  owner: string,
): Grant[] {
  const readers = readersOf(rules);
  return objects.flatMap(({ kind, name, target, bundle, informs }) => {
    const privilege = kind === 'ROUTINE' ? 'EXECUTE' : 'SELECT';
    const isPublic = kind === 'ROUTINE' && extensionFunctions.has(name);
    const grantees = isPublic ? ['PUBLIC'] : [owner, ...(informs ? readers : [])];
    return grantees.map((grantee) => ({ ...grant(target, grantee, privilege), bundle }));
  });
}
