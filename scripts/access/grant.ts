// A privilege that a role has or should have, and SQL that reads privileges from the catalog.

/** A privilege of a role that does not own the object. */
export interface Grant {
  /** For default privileges, the role that creates the objects; else empty. */
  readonly defaultPrivilegesOf: string;
  /** For default privileges, the schema that they are limited to; else empty. */
  readonly inSchema: string;
  /** SQL after ON: `TABLE public.users`. */
  readonly target: string;
  /** Empty for the whole target. */
  readonly column: string;
  /** Role, or PUBLIC. */
  readonly grantee: string;
  readonly privilege: string;
  readonly grantable: boolean;
  /** Describes the targets that share one statement and one message, such as `routines of TimescaleDB`. */
  readonly bundle?: string;
}

/** A privilege on an object that exists. */
export const grant = (target: string, grantee: string, privilege: string, column = ''): Grant => ({
  defaultPrivilegesOf: '',
  inSchema: '',
  target,
  column,
  grantee,
  privilege,
  grantable: false,
});

export const granteeName = `CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee) END`;

/** SQL for the privileges in an ACL, without the owner's. Grouped, because several grantors may grant the same one. */
export const exploded = (acl: string, owner: string) => `LATERAL (
  SELECT ${granteeName}::text AS grantee, g.privilege_type AS privilege, bool_or(g.is_grantable) AS grantable
  FROM aclexplode(${acl}) AS g WHERE g.grantee <> ${owner} GROUP BY 1, 2) AS g`;
