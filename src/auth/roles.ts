// Assigns, removes and reads the roles of users, by role name.

import { UserReferenceError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { isStorable, requireString } from './arguments.ts';
import { UnknownRoleError } from './errors.ts';
import { roleNamesSql } from './users.ts';

/**
 * Gives a user a role.
 * @returns true if the user did not have the role before.
 * @throws UserReferenceError for an unknown user; UnknownRoleError; ValidationError for invalid arguments.
 */
export async function assignRole(coreDb: AnyDatabase, userId: string, role: string): Promise<boolean> {
  const ids = await findIds(coreDb, userId, role);
  try {
    const { rowCount } = await databaseOf(coreDb).query(
      'INSERT INTO user_roles (user_id, role_id) VALUES ($1, $2) ON CONFLICT (user_id, role_id) DO NOTHING',
      [ids.userId, ids.roleId],
    );
    return rowCount > 0;
  } catch (error) {
    // The user or the role was deleted between the two statements.
    const { constraint_name: constraint } = error as { constraint_name?: string };
    if (constraint === 'user_roles_user_id_users_id_fk') throw new UserReferenceError(ids.userId, 'unknown');
    if (constraint === 'user_roles_role_id_roles_id_fk') throw new UnknownRoleError(role);
    throw error;
  }
}

/**
 * Removes a role from a user.
 * @returns true if the user had the role.
 * @throws UserReferenceError for an unknown user; UnknownRoleError; ValidationError for invalid arguments.
 */
export async function removeRole(coreDb: AnyDatabase, userId: string, role: string): Promise<boolean> {
  const ids = await findIds(coreDb, userId, role);
  const { rowCount } = await databaseOf(coreDb).query(
    'DELETE FROM user_roles WHERE user_id = $1 AND role_id = $2',
    [ids.userId, ids.roleId],
  );
  return rowCount > 0;
}

/**
 * Names of a user's roles, sorted. Includes the roles of an inactive user.
 * @throws UserReferenceError for an unknown user; ValidationError for a value that is not a uuid.
 */
export async function getUserRoles(coreDb: AnyDatabase, userId: string): Promise<string[]> {
  const id = requireUuid(userId, 'userId');
  const { rows } = await databaseOf(coreDb).primary.query<{ roles: string[] }>(
    `SELECT ${roleNamesSql('users.id')} AS roles FROM users WHERE id = $1`,
    [id],
  );
  if (!rows[0]) throw new UserReferenceError(id, 'unknown');
  return rows[0].roles;
}

/**
 * Whether a user has a role and is active.
 * @throws UserReferenceError for an unknown user; UnknownRoleError; ValidationError for invalid arguments.
 */
export async function hasRole(coreDb: AnyDatabase, userId: string, role: string): Promise<boolean> {
  return (await findIds(coreDb, userId, role)).active;
}

async function findIds(coreDb: AnyDatabase, userId: string, role: string) {
  const id = requireUuid(userId, 'userId');
  const name = requireString(role, 'role');
  // PostgreSQL would reject this text with an error instead of finding no role.
  if (!isStorable(name)) throw new UnknownRoleError(name);
  const { rows } = await databaseOf(coreDb).primary.query<{
    user: boolean;
    active: boolean;
    roleId: string | null;
  }>(
    `SELECT users.id IS NOT NULL AS user, roles.id AS "roleId",
       coalesce(users.is_active, false) AND user_roles.id IS NOT NULL AS active
     FROM (SELECT) AS one LEFT JOIN users ON users.id = $1 LEFT JOIN roles ON roles.name = $2
       LEFT JOIN user_roles ON user_roles.user_id = users.id AND user_roles.role_id = roles.id`,
    [id, name],
  );
  const [found] = rows;
  if (!found?.user) throw new UserReferenceError(id, 'unknown');
  if (found.roleId === null) throw new UnknownRoleError(name);
  return { userId: id, roleId: found.roleId, active: found.active };
}
