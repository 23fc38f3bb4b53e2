// The user object that the authentication functions return. It never contains the password hash.

export interface AuthenticatedUser {
  id: string;
  email: string;
  name: string;
  emailVerified: boolean;
  avatarUrl: string | null;
  /** Null before the first login. In the result of `authenticate`, the time of this login. */
  lastLoginAt: Date | null;
  createdAt: Date;
  /** Role names, sorted. */
  roles: string[];
}

/** SQL for the sorted role names of the user whose id is the SQL expression `id`. Uses the index of user_roles. */
export const roleNamesSql = (id: string): string =>
  `ARRAY(SELECT roles.name::text FROM user_roles JOIN roles ON roles.id = user_roles.role_id
         WHERE user_roles.user_id = ${id} ORDER BY roles.name)`;

/** SQL list of the columns of `AuthenticatedUser`. `table` is `users`, or a CTE with the same columns. */
export const userColumns = (table: string): string =>
  `${table}.id, ${table}.email, ${table}.name, ${table}.email_verified AS "emailVerified",
   ${table}.avatar_url AS "avatarUrl", ${table}.last_login_at AS "lastLoginAt",
   ${table}.created_at AS "createdAt", ${roleNamesSql(`${table}.id`)} AS roles`;
