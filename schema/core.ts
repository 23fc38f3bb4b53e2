// Schema of atriz_core: users, tokens and roles, for the authentication of all applications.
import { relations, sql } from 'drizzle-orm';
import {
  boolean,
  check,
  index,
  inet,
  jsonb,
  type PgColumn,
  pgEnum,
  pgTable,
  text,
  unique,
  uniqueIndex,
  uuid,
  varchar,
} from 'drizzle-orm/pg-core';
import { primaryId, timestamps, timestamptz } from './columns.ts';
import { deleteRows, type ErasureRule, keepRows } from './erasure.ts';

export const users = pgTable(
  'users',
  {
    id: primaryId(),
    email: varchar('email', { length: 255 }).notNull().unique('users_email_key'),
    passwordHash: text('password_hash').notNull(),
    name: text('name').notNull(),
    emailVerified: boolean('email_verified').notNull().default(false),
    isActive: boolean('is_active').notNull().default(true),
    avatarUrl: varchar('avatar_url', { length: 500 }),
    lastLoginAt: timestamptz('last_login_at'),
    ...timestamps(),
  },
  (table) => [
    // Serves the clean-up of avatars: WHERE avatar_url = $1. Partial, because few users have an avatar.
    index('idx_users_avatar').on(table.avatarUrl).where(sql`${table.avatarUrl} IS NOT NULL`),
    // Allows only lower-case e-mails, which makes users_email_key case-insensitive.
    check('check_email_lower', sql`${table.email} = lower(${table.email})`),
    check('check_email_format', sql`${table.email} ~ '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}$'`),
  ],
);
export type User = typeof users.$inferSelect;
export type NewUser = typeof users.$inferInsert;

export const tokenType = pgEnum('token_type', ['access', 'refresh', 'email_verification', 'password_reset']);

export const authTokens = pgTable(
  'auth_tokens',
  {
    id: primaryId(),
    userId: uuid('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    tokenType: tokenType('token_type').notNull(),
    tokenHash: varchar('token_hash', { length: 64 }).notNull().unique('auth_tokens_token_hash_key'),
    familyId: uuid('family_id'),
    expiresAt: timestamptz('expires_at').notNull(),
    usedAt: timestamptz('used_at'),
    revokedAt: timestamptz('revoked_at'),
    userAgent: text('user_agent'),
    ipAddress: inet('ip_address'),
    ...timestamps(),
  },
  (table) => [
    // Serves the revocation of a user's tokens, of all types or one, and the cascade from users.
    index('idx_auth_tokens_user_type').on(table.userId, table.tokenType),
    // Serves family revocation: WHERE family_id = $1.
    index('idx_auth_tokens_family').on(table.familyId).where(sql`${table.familyId} IS NOT NULL`),
    // Ensures that a family has at most one refresh token that can be rotated. Also serves the purge, which looks for
    // this token: WHERE family_id = $1 AND token_type = 'refresh' AND used_at IS NULL AND revoked_at IS NULL.
    uniqueIndex('idx_auth_tokens_live_refresh')
      .on(table.familyId)
      .where(sql`${table.tokenType} = 'refresh' AND ${table.usedAt} IS NULL AND ${table.revokedAt} IS NULL`),
    // Serves the purge: WHERE expires_at <= statement_timestamp().
    index('idx_auth_tokens_expires').on(table.expiresAt),
    check('check_token_hash', sql`${table.tokenHash} ~ '^[0-9a-f]{64}$'`),
    check('check_token_expiry', sql`${table.expiresAt} > ${table.createdAt}`),
  ],
);
export type AuthToken = typeof authTokens.$inferSelect;
export type NewAuthToken = typeof authTokens.$inferInsert;

/** SQL for the `subject` of an account in login_attempts: the SHA-256 of the account's e-mail, in hexadecimal. */
const loginSubjectOf = (email: PgColumn) => sql`encode(sha256(convert_to(${email}, 'UTF8')), 'hex')`;

export const loginSubject = pgEnum('login_subject', ['address', 'account', 'known_address']);

// Each subject has one row, a counter of its attempts: the row lock applies the limit to simultaneous attempts.
// An unknown e-mail gets a row too, so that a login does not reveal whether a user has this e-mail. The limit for
// addresses bounds the number of such rows, and the purge deletes them.
export const loginAttempts = pgTable(
  'login_attempts',
  {
    id: primaryId(),
    subjectType: loginSubject('subject_type').notNull(),
    subject: varchar('subject', { length: 64 }).notNull(),
    /** Only for a known address: the `subject` of its account. Password resets and erasures find the row by it. */
    account: varchar('account', { length: 64 }),
    forgivenAt: timestamptz('forgiven_at').notNull(),
    expiresAt: timestamptz('expires_at').notNull(),
    userAgent: text('user_agent'),
    ...timestamps(),
  },
  (table) => [
    // Serves every login: WHERE subject_type = $1 AND subject = $2.
    unique('login_attempts_subject_key').on(table.subjectType, table.subject),
    // Serves the purge: WHERE expires_at <= statement_timestamp().
    index('idx_login_attempts_expires').on(table.expiresAt),
    // Serves password resets and erasures: WHERE account = $1.
    index('idx_login_attempts_account').on(table.account).where(sql`${table.account} IS NOT NULL`),
    // Accounts and known addresses are SHA-256 values, so none of them can be an e-mail in plain text.
    check(
      'check_login_subject',
      sql`${table.subjectType} = 'address' OR ${table.subject} ~ '^[0-9a-f]{64}$'`,
    ),
    check('check_login_account', sql`${table.account} ~ '^[0-9a-f]{64}$'`),
  ],
);
export type LoginAttempt = typeof loginAttempts.$inferSelect;
export type NewLoginAttempt = typeof loginAttempts.$inferInsert;

export const roles = pgTable('roles', {
  id: primaryId(),
  name: varchar('name', { length: 100 }).notNull().unique('roles_name_key'),
  description: text('description'),
  ...timestamps(),
});
export type Role = typeof roles.$inferSelect;
export type NewRole = typeof roles.$inferInsert;

export const userRoles = pgTable(
  'user_roles',
  {
    id: primaryId(),
    userId: uuid('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    roleId: uuid('role_id')
      .notNull()
      .references(() => roles.id, { onDelete: 'cascade' }),
    ...timestamps(),
  },
  (table) => [
    // The index also serves queries for the roles of a user: WHERE user_id = $1.
    unique('user_roles_user_id_role_id_key').on(table.userId, table.roleId),
    // Serves queries for the users with a role, and the cascade from roles.
    index('idx_user_roles_role').on(table.roleId),
  ],
);
export type UserRole = typeof userRoles.$inferSelect;
export type NewUserRole = typeof userRoles.$inferInsert;

export const userMetadata = pgTable(
  'user_metadata',
  {
    id: primaryId(),
    userId: uuid('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    key: varchar('key', { length: 100 }).notNull(),
    value: jsonb('value'),
    ...timestamps(),
  },
  (table) => [
    unique('user_metadata_user_id_key_key').on(table.userId, table.key),
    index('idx_user_metadata_user_id').on(table.userId),
  ],
);
export type UserMetadata = typeof userMetadata.$inferSelect;
export type NewUserMetadata = typeof userMetadata.$inferInsert;

export const usersRelations = relations(users, ({ many }) => ({
  authTokens: many(authTokens),
  userRoles: many(userRoles),
  metadata: many(userMetadata),
}));

export const authTokensRelations = relations(authTokens, ({ one }) => ({
  user: one(users, { fields: [authTokens.userId], references: [users.id] }),
}));

export const rolesRelations = relations(roles, ({ many }) => ({
  userRoles: many(userRoles),
}));

export const userRolesRelations = relations(userRoles, ({ one }) => ({
  user: one(users, { fields: [userRoles.userId], references: [users.id] }),
  role: one(roles, { fields: [userRoles.roleId], references: [roles.id] }),
}));

export const userMetadataRelations = relations(userMetadata, ({ one }) => ({
  user: one(users, { fields: [userMetadata.userId], references: [users.id] }),
}));

export const erasure: readonly ErasureRule[] = [
  keepRows(roles, 'names of roles, the same for everybody'),
  // Counters of addresses stay: they do not identify an account, and db:purge-tokens deletes them after they expire.
  deleteRows(loginAttempts, loginAttempts.subject, {
    through: { key: users.email, as: loginSubjectOf(users.email), person: users.id },
  }),
  deleteRows(loginAttempts, loginAttempts.account, {
    through: { key: users.email, as: loginSubjectOf(users.email), person: users.id },
  }),
  deleteRows(authTokens, authTokens.userId),
  deleteRows(userRoles, userRoles.userId),
  deleteRows(userMetadata, userMetadata.userId),
  deleteRows(users, users.id),
];

/** Only the owner and atriz_auth may read these columns. Other roles can get grants only on the remaining columns. */
export const secretColumns = [
  users.passwordHash,
  authTokens.tokenHash,
  loginAttempts.subject,
  loginAttempts.account,
] as const;
