// The access matrix with role prefix and passwords from the environment, for the commands and the doctor.

import { rolePassword, rolePrefix } from '../../src/config.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { queryCatalog } from '../../src/sql/catalog-path.ts';
import { foreignSources } from '../../src/targets.ts';
import { plural } from '../cli/output.ts';
import { type Applied, type ApplyOptions, applyAccess, isNewRole } from './apply.ts';
import type { AccessDifference } from './check.ts';
import { accessMatrix, type DatabaseAccess, matrixRoles } from './matrix.ts';

export const matrixOf = (key: DatabaseTarget): DatabaseAccess =>
  accessMatrix(key, rolePrefix(), foreignSources(key));

/** Applies the matrix and sets the passwords from the environment. */
export const applyMatrix = (pool: Pool, key: DatabaseTarget, options: ApplyOptions = {}): Promise<Applied> =>
  applyAccess(pool, matrixOf(key), { passwordOf: rolePassword, ...options });

/**
 * For use after migrations: gives new objects their owner and grants. Privileges granted by hand to roles outside
 * the matrix stay: only "access apply" revokes and reports them.
 */
export function applyToNewObjects(pool: Pool, key: DatabaseTarget): Promise<Applied> {
  const matrix = matrixOf(key);
  const only = (difference: AccessDifference) => {
    const { stage, mend, loser, ofExtension } = difference;
    if (stage === 'role') return isNewRole(difference);
    // Dropping the mapping would lose its password.
    if (mend.startsWith('DROP USER MAPPING')) return false;
    // Revoke from PUBLIC only the grants of extensions, and EXECUTE on functions: a superuser's migration creates
    // functions with this grant.
    if (loser === 'PUBLIC') return ofExtension || mend.startsWith('REVOKE EXECUTE ON ROUTINE');
    return loser === undefined || matrixRoles(matrix).includes(loser);
  };
  // Sets no passwords: migrations may run as the owner, which cannot set the passwords of other roles.
  return applyAccess(pool, matrix, { only });
}

/** For use before a restore: creates the roles that a new server lacks, and sets the passwords from the environment. */
export const makeRoles = (pool: Pool, key: DatabaseTarget): Promise<Applied> =>
  applyMatrix(pool, key, { makesRoles: true });

/** Whether the matrix was applied: its owner role then owns the database. */
export async function isAccessApplied(db: Pool, key: DatabaseTarget): Promise<boolean> {
  const { rows } = await queryCatalog<{ owner: string }>(
    db,
    'SELECT pg_get_userbyid(datdba)::text AS owner FROM pg_database WHERE datname = current_database()',
  );
  return rows[0]?.owner === matrixOf(key).owner;
}

/**
 * Whether to check the grants against the matrix: the matrix was applied, or one of its roles owns an object or has a
 * grant in this database. The second case occurs after pg_restore --no-owner, when another role owns the database.
 */
export async function isCheckedByMatrix(db: Pool, key: DatabaseTarget): Promise<boolean> {
  if (await isAccessApplied(db, key)) return true;
  const { rowCount } = await queryCatalog(
    db,
    `SELECT 1 FROM pg_shdepend d JOIN pg_roles r ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
     WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND r.rolname = ANY($1) LIMIT 1`,
    [matrixRoles(matrixOf(key))],
  );
  return rowCount > 0;
}

/** Message for an existing database to which the matrix was not applied. */
export const accessNotApplied = (key: DatabaseTarget): string =>
  `${definitionOf(key).database}: roles and grants were never applied: npm run db:access -- apply ${key}`;

/** Prints a message about the changes that the connected role was not allowed to make. */
export function printRefused(key: DatabaseTarget, { refused }: Applied): void {
  const [first] = refused;
  if (!first) return;
  const able = refused.some(({ ofExtension }) => ofExtension)
    ? 'as a superuser, who owns what an extension made'
    : 'as a superuser, or as a role with CREATEROLE that owns the database';
  console.error(
    `access of ${definitionOf(key).database} is not as the matrix says: this role may not make ` +
      `${plural(refused.length, 'change')}, such as: ${shortened(first.mend)}. ` +
      `Run "npm run db:access -- apply ${key}" ${able}.`,
  );
}

/** Shortens a statement for messages. Statements on many objects of an extension are very long. */
export const shortened = (statement: string): string =>
  statement.length <= 400 ? statement : `${statement.slice(0, 200)} …`;
