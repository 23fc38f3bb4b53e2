// Creates accounts, changes and resets passwords, and verifies e-mail addresses.

import { UserReferenceError, ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { type Transaction, withTransaction } from '../transaction.ts';
import {
  isStorable,
  parseAddress,
  parseEmail,
  parseUserAgent,
  requireFields,
  requireString,
} from './arguments.ts';
import { type AuthenticateOptions, checkPassword, type LoginFailure, type Origin } from './authenticate.ts';
import { EmailTakenError } from './errors.ts';
import { forgetFailures, forgiveAttempt } from './login-attempts.ts';
import { hashPassword, requirePassword } from './passwords.ts';
import { revokeTokens } from './revoke.ts';
import { assignRole } from './roles.ts';
import { consumeToken, verifyToken } from './tokens.ts';
import { type AuthenticatedUser, userColumns } from './users.ts';

const maxNameLength = 1_000;

export interface NewAccount {
  /** Stored in lower case. */
  email: string;
  password: string;
  name: string;
  /** Names of existing roles. */
  roles?: readonly string[];
}

export interface CostOptions {
  /** bcrypt cost, 10 to 20. Default 12. */
  cost?: number;
}

/**
 * Creates a user with a password and roles in one transaction, and returns the user.
 * @throws EmailTakenError, UnknownRoleError, ValidationError.
 */
export async function createUser(
  coreDb: AnyDatabase,
  account: NewAccount,
  options: CostOptions = {},
): Promise<AuthenticatedUser> {
  const { email, password, name, roles = [] } = requireFields(account, 'account');
  const address = parseEmail(email);
  if (address === undefined)
    throw new ValidationError('email is not an address that atriz_core stores: use name@example.com.');
  const text = requireString(name, 'name');
  if (text.trim() === '' || text.length > maxNameLength || !isStorable(text)) {
    throw new ValidationError(
      `name should have 1 to ${maxNameLength} characters, without NUL and half surrogate pairs.`,
    );
  }
  if (!Array.isArray(roles)) throw new ValidationError('roles is not a list: pass an array of names.');
  const passwordHash = await hashPassword(password, requireFields(options, 'options').cost);
  return await withTransaction(coreDb, async (transaction) => {
    const { rows } = await transaction.query<{ id: string }>(
      `INSERT INTO users (email, password_hash, name) VALUES ($1, $2, $3)
       ON CONFLICT (email) DO NOTHING RETURNING id`,
      [address, passwordHash, text],
    );
    const [inserted] = rows;
    if (!inserted) throw new EmailTakenError(address);
    for (const role of roles) await assignRole(transaction, inserted.id, role);
    return await readUser(transaction, inserted.id);
  });
}

export type PasswordChange = { ok: true; revokedTokens: number } | LoginFailure;

/**
 * Changes a password for a caller that knows the current one, and revokes all tokens of the user. Issue new
 * tokens to the requesting client. Failures are limited and returned as in `authenticate`.
 * @throws UserReferenceError for an unknown user; ValidationError for a new password that `hashPassword`
 * refuses and for other invalid arguments.
 */
export async function changePassword(
  coreDb: AnyDatabase,
  change: { userId: string; currentPassword: string; newPassword: string } & Origin,
  options: AuthenticateOptions = {},
): Promise<PasswordChange> {
  const { userId, currentPassword, newPassword, ipAddress, userAgent } = requireFields(change, 'change');
  const id = requireUuid(userId, 'userId');
  const origin = { address: parseAddress(ipAddress), userAgent: parseUserAgent(userAgent) };
  const current = requireString(currentPassword, 'currentPassword');
  requirePassword(newPassword);
  const { rows } = await databaseOf(coreDb).primary.query<{ email: string }>(
    'SELECT email FROM users WHERE id = $1',
    [id],
  );
  if (!rows[0]) throw new UserReferenceError(id, 'unknown');
  const checked = await checkPassword(coreDb, { email: rows[0].email, ...origin }, current, options);
  if (!checked.ok) return checked;
  const passwordHash = await hashPassword(newPassword, checked.cost);
  const revokedTokens = await withTransaction(coreDb, (transaction) =>
    replacePassword(transaction, id, passwordHash, checked.passwordHash),
  );
  // While bcrypt ran, the password was changed or the user was deactivated.
  if (revokedTokens === undefined) return { ok: false, reason: 'credentials' };
  await forgiveAttempt(coreDb, checked.attempt);
  return { ok: true, revokedTokens };
}

/**
 * For operators: sets a password without checking the old one, and revokes all tokens of the user.
 * @returns the number of revoked tokens.
 * @throws UserReferenceError for an unknown user; ValidationError for invalid arguments.
 */
export async function setPassword(
  coreDb: AnyDatabase,
  userId: string,
  password: string,
  options: CostOptions = {},
): Promise<number> {
  const id = requireUuid(userId, 'userId');
  const passwordHash = await hashPassword(password, requireFields(options, 'options').cost);
  const revoked = await withTransaction(coreDb, (transaction) =>
    replacePassword(transaction, id, passwordHash),
  );
  if (revoked === undefined) throw new UserReferenceError(id, 'unknown');
  return revoked;
}

/**
 * Sets a new password for the owner of a `password_reset` token, and revokes all tokens of the user.
 * Also resets the account's login limit, but not the limits of IP addresses. All of this, including the
 * use of the token, happens in one transaction.
 * @throws TokenError; ValidationError for a token that is not a string, and for a password or a cost that
 * `hashPassword` refuses.
 */
export async function resetPassword(
  coreDb: AnyDatabase,
  token: string,
  password: string,
  options: CostOptions = {},
): Promise<AuthenticatedUser> {
  requirePassword(password);
  // Checked before hashing, so that an invalid token does not cause bcrypt work.
  await verifyToken(coreDb, token, 'password_reset');
  const passwordHash = await hashPassword(password, requireFields(options, 'options').cost);
  return await withTransaction(coreDb, async (transaction) => {
    const { userId } = await consumeToken(transaction, token, 'password_reset');
    await replacePassword(transaction, userId, passwordHash);
    const user = await readUser(transaction, userId);
    await forgetFailures(transaction, user.email);
    return user;
  });
}

/**
 * Marks the e-mail of the owner of an `email_verification` token as verified. An application that changes
 * an e-mail should revoke the user's tokens of this type, because they were sent to the old e-mail.
 * @throws TokenError; ValidationError for a value that is not a token.
 */
export async function verifyEmail(coreDb: AnyDatabase, token: string): Promise<AuthenticatedUser> {
  return await withTransaction(coreDb, async (transaction) => {
    const { userId } = await consumeToken(transaction, token, 'email_verification');
    await transaction.query('UPDATE users SET email_verified = true WHERE id = $1', [userId]);
    return await readUser(transaction, userId);
  });
}

// The UPDATE locks the user's row, so no token is issued or rotated before the revocation commits.
async function replacePassword(
  transaction: Transaction,
  userId: string,
  passwordHash: string,
  current?: string,
): Promise<number | undefined> {
  const { rowCount } = await transaction.query(
    `UPDATE users SET password_hash = $2
     WHERE id = $1 AND ($3::text IS NULL OR (password_hash = $3 AND is_active))`,
    [userId, passwordHash, current],
  );
  return rowCount === 0 ? undefined : await revokeTokens(transaction, userId, null);
}

async function readUser(transaction: Transaction, userId: string): Promise<AuthenticatedUser> {
  const { rows } = await transaction.query<AuthenticatedUser>(
    `SELECT ${userColumns('users')} FROM users WHERE id = $1`,
    [userId],
  );
  const [user] = rows;
  if (!user) throw new UserReferenceError(userId, 'unknown');
  return user;
}
