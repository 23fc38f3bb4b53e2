// Access outside of our schemas: other databases, foreign servers, large objects, the server's own grants.
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { exploded } from './grant.ts';
import type { Change, LiveAccess } from './live-access.ts';
import { type DatabaseAccess, matrixRoles } from './matrix.ts';

const grantOn = (target: string) =>
  `SELECT '' AS "defaultPrivilegesOf", '' AS "inSchema", ${target} AS target, '' AS "column", g.*`;

export const foreignGrantsQuery = `
  ${grantOn(`format('FOREIGN SERVER %I', srvname)`)} FROM pg_foreign_server, ${exploded('srvacl', 'srvowner')}
  UNION ALL ${grantOn(`format('FOREIGN DATA WRAPPER %I', fdwname)`)}
  FROM pg_foreign_data_wrapper, ${exploded('fdwacl', 'fdwowner')}`;

/** Only grants to the grantees in $1, because parameters and tablespaces belong to the whole server. */
export const serverGrantsQuery = `
  SELECT * FROM (
    ${grantOn(`'PARAMETER ' || (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(parname, '.')) AS part)`)}
    FROM pg_parameter_acl, ${exploded('paracl', '10')}
    UNION ALL ${grantOn(`format('TABLESPACE %I', spcname)`)} FROM pg_tablespace, ${exploded('spcacl', 'spcowner')}
  ) AS g WHERE grantee = ANY ($1::text[])`;

/** Finds the functions with which PUBLIC may create large objects. PostgreSQL allows this by default. */
export const largeObjectsQuery = `
  SELECT format('pg_catalog.%I(%s)', proname, pg_get_function_identity_arguments(oid)) AS name
  FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
    AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0)
  ORDER BY 1`;

export const foreignServersQuery = `
  SELECT s.srvname::text AS name, w.fdwname::text AS wrapper, pg_get_userbyid(s.srvowner)::text AS owner,
    ARRAY(SELECT CASE m.umuser WHEN 0 THEN 'PUBLIC' ELSE m.usename::text END
      FROM pg_user_mappings m WHERE m.srvid = s.oid ORDER BY 1) AS mappings
  FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw ORDER BY 1`;

export const reachableQuery = `
  SELECT datname::text AS name FROM pg_database
  WHERE datallowconn AND datname <> current_database() AND EXISTS (
    SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0 AND privilege_type = 'CONNECT')
  ORDER BY datname <> 'postgres', 1`;

/** With a user mapping, a role logs in to another server by a stored password, so only the owner may have one. */
export function compareForeign(matrix: DatabaseAccess, { foreignServers }: LiveAccess): Change[] {
  const { owner } = matrix;
  const others = new Set(['PUBLIC', ...matrixRoles(matrix)].filter((role) => role !== owner));
  const quote = (role: string) => (role === 'PUBLIC' ? role : quoteIdentifier(role));
  return foreignServers.flatMap(({ name, owner: current, mappings }) => [
    ...(others.has(current)
      ? [
          {
            what: `the foreign server ${name} belongs to ${current} instead of ${owner}`,
            mend: `ALTER SERVER ${quoteIdentifier(name)} OWNER TO ${quoteIdentifier(owner)}`,
            loser: current,
          },
        ]
      : []),
    ...mappings
      .filter((role) => others.has(role))
      .map((role) => ({
        what: `${role} has a user mapping for the foreign server ${name}`,
        mend: `DROP USER MAPPING FOR ${quote(role)} SERVER ${quoteIdentifier(name)}`,
        loser: role,
      })),
  ]);
}

/**
 * Notes for the operator: nothing is changed, and `check` exits with 0. Privileges on other databases are not part
 * of this matrix, and a REVOKE on PostgreSQL's own functions would be in every dump.
 */
export function noteAccess({ routines, foreignServers, largeObjects, reachable }: LiveAccess): string[] {
  const named = reachable.slice(0, 3);
  const more = reachable.length - named.length;
  return [
    ...routines
      .filter(({ ownersRights, settled }) => !ownersRights && !settled)
      .map(({ target }) => `${target} runs with the search_path of its caller`),
    ...foreignServers.map(
      ({ name, wrapper, owner, mappings }) =>
        `there is a foreign server ${name} (${wrapper}) of ${owner}, with user mappings for ${mappings.join(', ') || 'nobody'}`,
    ),
    ...(largeObjects.length === 0
      ? []
      : [
          'every role may make large objects. To close that, as a superuser: ' +
            `REVOKE EXECUTE ON FUNCTION ${largeObjects.join(', ')} FROM PUBLIC;`,
        ]),
    ...(named.length === 0
      ? []
      : [
          `every role may connect to ${named.join(', ')}${more > 0 ? ` and ${more} more databases` : ''}. ` +
            `To close that: REVOKE CONNECT ON DATABASE ${named.map(quoteIdentifier).join(', ')} FROM PUBLIC;`,
        ]),
  ];
}
