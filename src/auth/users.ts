// The user as the authentication functions return one: never with its password hash.

export interface AuthenticatedUser {
  id: string;
  email: string;
  name: string;
  emailVerified: boolean;
  avatarUrl: string | null;
  /** This login included. */
  lastLoginAt: Date | null;
  createdAt: Date;
  /** Names, sorted. */
  roles: string[];
}

/** Names of a user's roles, sorted; `id` is an SQL expression. Its index is that of user_roles. */
export const roleNamesSql = (id: string): string =>
  `ARRAY(SELECT roles.name::text FROM user_roles JOIN roles ON roles.id = user_roles.role_id
         WHERE user_roles.user_id = ${id} ORDER BY roles.name)`;

/** The columns of `AuthenticatedUser`, of `users` or of a CTE that returns its columns. */
export const userColumns = (table: string): string =>
  `${table}.id, ${table}.email, ${table}.name, ${table}.email_verified AS "emailVerified",
   ${table}.avatar_url AS "avatarUrl", ${table}.last_login_at AS "lastLoginAt",
   ${table}.created_at AS "createdAt", ${roleNamesSql(`${table}.id`)} AS roles`;
