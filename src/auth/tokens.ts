// Issues and checks tokens: 32 random bytes, or the jti of a JWT. The database stores only their SHA-256.

import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { tokenType } from '../../schema/core.ts';
import { UserReferenceError, ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { type Transaction, withTransaction } from '../transaction.ts';
import {
  parseAddress,
  parseUserAgent,
  requireFields,
  requireInteger,
  requireOneOf,
  requireString,
} from './arguments.ts';
import type { Origin } from './authenticate.ts';
import { TokenError, type TokenFailure } from './errors.ts';
import { roleNamesSql } from './users.ts';

export type TokenType = (typeof tokenType.enumValues)[number];
/** The types that `consumeToken` accepts. Refresh tokens are rotated instead. */
const oneTimeTypes = ['email_verification', 'password_reset'] as const;
export type OneTimeTokenType = (typeof oneTimeTypes)[number];
const minute = 60_000;

/** Default lifetime of each type of token, in milliseconds. */
export const tokenLifetimesMs: Readonly<Record<TokenType, number>> = {
  access: 15 * minute,
  refresh: 30 * 24 * 60 * minute,
  email_verification: 24 * 60 * minute,
  password_reset: 60 * minute,
};
const maxLifetimeMs = 366 * 24 * 60 * minute;

export interface Token {
  id: string;
  userId: string;
  type: TokenType;
  /** Identifies one login: its refresh tokens, and the access tokens issued with this id. Null for other tokens. */
  familyId: string | null;
  createdAt: Date;
  /** The token is refused from this time on, by the database's clock. Whole milliseconds. */
  expiresAt: Date;
}

/**
 * A new token. Only this object contains the secret, because the database stores its hash. For a token with
 * a jti, `token` is the jti. It is not accepted as a secret: present it as `{ jti }`.
 */
export interface IssuedToken extends Token {
  token: string;
}

/**
 * The secret, or the `jti` of a JWT whose signature the application has verified. A jti is not a secret and
 * may appear in logs, so a plain string is never accepted as a jti.
 */
export type PresentedToken = string | { readonly jti: string };

export interface VerifiedToken extends Token {
  /** Names of the user's current roles, sorted. */
  roles: string[];
}

export interface NewTokenOptions extends Origin {
  /** Lifetime in milliseconds, 1 to 31,622,400,000 (366 days). Default: `tokenLifetimesMs` of the type. */
  lifetimeMs?: number;
  /** The `jti` of a JWT that the application signs: 16 to 255 visible ASCII characters. */
  jti?: string;
}

export interface IssueTokenOptions extends NewTokenOptions {
  userId: string;
  type: TokenType;
  /** Only for an access token: the login that it belongs to. A new refresh token starts a login. */
  familyId?: string | null;
}

/**
 * Issues a token to an active user.
 * @throws UserReferenceError for an unknown or inactive user; TokenError `revoked` for a `familyId` without a
 * valid refresh token; ValidationError for other invalid arguments, such as a jti that is already stored.
 */
export async function issueToken(coreDb: AnyDatabase, options: IssueTokenOptions): Promise<IssuedToken> {
  const { userId, type, familyId, ...rest } = requireFields(options, 'options');
  const owner = requireUuid(userId, 'userId');
  const token = parseNewToken(requireOneOf(type, 'type', tokenType.enumValues), rest);
  if (familyId === undefined || familyId === null) {
    return await insertOwned(coreDb, token, owner, type === 'refresh' ? randomUUID() : null);
  }
  if (type !== 'access') throw new ValidationError(`familyId is for access tokens, not for ${type}.`);
  const family = requireUuid(familyId, 'familyId');
  return await withTransaction(coreDb, async (transaction) => {
    await lockUser(transaction, owner);
    const { rowCount } = await transaction.query(
      `SELECT 1 FROM auth_tokens WHERE family_id = $1 AND user_id = $2 AND token_type = 'refresh'
         AND used_at IS NULL AND revoked_at IS NULL AND expires_at > clock_timestamp()`,
      [family, owner],
    );
    if (rowCount === 0) throw new TokenError('revoked');
    return await insertOwned(transaction, token, owner, family);
  });
}

async function insertOwned(
  coreDb: AnyDatabase,
  token: NewToken,
  userId: string,
  familyId: string | null,
): Promise<IssuedToken> {
  const inserted = await insertToken(
    coreDb,
    token,
    `owner AS (SELECT id AS user_id, $7::uuid AS family_id FROM users WHERE id = $6 AND is_active FOR NO KEY UPDATE)`,
    [userId, familyId],
  );
  if (inserted) return inserted;
  const { rowCount } = await databaseOf(coreDb).primary.query('SELECT 1 FROM users WHERE id = $1', [userId]);
  throw new UserReferenceError(userId, rowCount === 0 ? 'unknown' : 'inactive');
}

/**
 * Checks a token, with one indexed query and no write: call it on each request. It reads the primary, because a
 * replica may not have a revocation yet. Tokens of an inactive user are refused.
 * @throws TokenError with the reason; ValidationError for a value that is not a token, or for an unknown type.
 */
export async function verifyToken(
  coreDb: AnyDatabase,
  token: PresentedToken,
  type: TokenType,
): Promise<VerifiedToken> {
  const wanted = requireOneOf(type, 'type', tokenType.enumValues);
  const found = await findToken(coreDb, token);
  const failure = failureOf(found, wanted);
  if (!found || failure) throw new TokenError(failure ?? 'unknown');
  const { id, userId, familyId, createdAt, expiresAt, roles } = found;
  return { id, userId, type: wanted, familyId, createdAt, expiresAt, roles };
}

/**
 * Marks a one-time token as used. Of several simultaneous attempts, one succeeds. If the surrounding
 * transaction is rolled back, the token stays unused.
 * @throws TokenError with the reason; ValidationError for a value that is not a token, or a type that is not one-time.
 */
export async function consumeToken(
  coreDb: AnyDatabase,
  token: PresentedToken,
  type: OneTimeTokenType,
): Promise<Token> {
  requireOneOf(type, 'type', oneTimeTypes);
  const { rows } = await databaseOf(coreDb).query<Token>(
    `WITH ${presented('$1', '$2')}
     UPDATE auth_tokens AS token SET used_at = clock_timestamp() FROM presented
     WHERE ${isUsable} RETURNING ${tokenColumns('token')}`,
    [hashToken(token), type],
  );
  const [consumed] = rows;
  if (consumed) return consumed;
  throw new TokenError(failureOf(await findToken(coreDb, token), type) ?? 'inactive user');
}

/**
 * SQL of a CTE that finds a token of an active user and locks the user's row. The UPDATE that follows locks
 * the token and tests `isUsable`. After a wait for a lock, PostgreSQL tests the latest version of the row.
 */
export const presented = (hash: string, type: string): string =>
  `presented AS MATERIALIZED (
     SELECT token.id FROM auth_tokens AS token JOIN users ON users.id = token.user_id
     WHERE token.token_hash = ${hash} AND token.token_type = ${type}::token_type AND users.is_active
     FOR NO KEY UPDATE OF users)`;

export const isUsable = `token.id = presented.id AND token.used_at IS NULL AND token.revoked_at IS NULL
  AND token.expires_at > clock_timestamp()`;

const tokenColumns = (table: string): string =>
  `${table}.id, ${table}.user_id AS "userId", ${table}.token_type AS type, ${table}.family_id AS "familyId",
   ${table}.created_at AS "createdAt", ${table}.expires_at AS "expiresAt"`;

/** A token without an owner. `parameters` are $1 to $5 of the statement in `insertToken`. */
interface NewToken {
  token: string;
  parameters: readonly unknown[];
}

// expires_at has whole milliseconds, so that the JavaScript Date equals the value in the database.
const insertInto = `INSERT INTO auth_tokens (token_hash, token_type, expires_at, ip_address, user_agent, user_id, family_id)
  SELECT $1, $2::token_type, date_trunc('milliseconds', clock_timestamp()) + $3::float8 * interval '1 ms', $4::inet, $5`;

/** @throws ValidationError for an invalid option. */
export function parseNewToken(
  type: TokenType,
  { lifetimeMs, jti, ipAddress, userAgent }: NewTokenOptions,
): NewToken {
  const token = jti === undefined ? randomBytes(32).toString('base64url') : requireString(jti, 'jti');
  if (!isPossibleToken(token)) {
    throw new ValidationError(
      'jti should have 16 to 255 visible ASCII characters, such as crypto.randomUUID().',
    );
  }
  const lifetime = requireInteger(lifetimeMs ?? tokenLifetimesMs[type], 'lifetimeMs', 1, maxLifetimeMs);
  return {
    token,
    parameters: [
      hashToken(jti === undefined ? token : { jti: token }),
      type,
      lifetime,
      parseAddress(ipAddress),
      parseUserAgent(userAgent),
    ],
  };
}

/**
 * Inserts a token for the user_id and family_id that the CTE `owner` returns. `ownerParameters` start at $6.
 * @returns undefined when `owner` returns no row.
 * @throws ValidationError for a jti that is already stored.
 */
export async function insertToken(
  coreDb: AnyDatabase,
  { token, parameters }: NewToken,
  owner: string,
  ownerParameters: readonly unknown[],
): Promise<IssuedToken | undefined> {
  try {
    const { rows } = await databaseOf(coreDb).query<Token>(
      `WITH ${owner} ${insertInto}, user_id, family_id FROM owner RETURNING ${tokenColumns('auth_tokens')}`,
      [...parameters, ...ownerParameters],
    );
    return rows[0] && { ...rows[0], token };
  } catch (error) {
    if ((error as { constraint_name?: string }).constraint_name !== 'auth_tokens_token_hash_key') throw error;
    throw new ValidationError('jti was stored before: every token needs its own.', { cause: error });
  }
}

/** Locks the user's row. Call it before changing the user's tokens, so that a revocation includes every new token. */
export async function lockUser(transaction: Transaction, userId: string): Promise<void> {
  const { rowCount } = await transaction.query('SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE', [
    userId,
  ]);
  if (rowCount === 0) throw new UserReferenceError(userId, 'unknown');
}

interface FoundToken extends Token {
  /** Milliseconds since the token was used, or null. */
  usedMsAgo: number | null;
  revoked: boolean;
  expired: boolean;
  active: boolean;
  roles: string[];
}

/** @throws ValidationError for a value that is not a token. */
export async function findToken(coreDb: AnyDatabase, token: PresentedToken): Promise<FoundToken | undefined> {
  const { rows } = await databaseOf(coreDb).primary.query<FoundToken>(
    `SELECT ${tokenColumns('token')}, token.revoked_at IS NOT NULL AS revoked,
       (extract(epoch FROM clock_timestamp() - token.used_at) * 1000)::float8 AS "usedMsAgo",
       token.expires_at <= clock_timestamp() AS expired, users.is_active AS active, ${roleNamesSql('users.id')} AS roles
     FROM auth_tokens AS token JOIN users ON users.id = token.user_id WHERE token.token_hash = $1`,
    [hashToken(token)],
  );
  return rows[0];
}

export function failureOf(found: FoundToken | undefined, type: TokenType): TokenFailure | undefined {
  if (!found) return 'unknown';
  if (found.type !== type) return 'wrong type';
  if (found.revoked) return 'revoked';
  if (found.usedMsAgo !== null) return 'used';
  if (found.expired) return 'expired';
  return found.active ? undefined : 'inactive user';
}

/**
 * Returns the value of token_hash: SHA-256 in hexadecimal, or null for text that cannot be a token. Null matches
 * no row. A jti is hashed with a prefix that contains a space. A token cannot contain a space, so a jti is never
 * accepted as a token.
 * @throws ValidationError for a value that is neither a string nor `{ jti }`.
 */
export function hashToken(token: PresentedToken): string | null {
  const isJti = typeof token === 'object' && token !== null;
  const text = isJti ? requireString(token.jti, 'jti') : requireString(token, 'token');
  if (!isPossibleToken(text)) return null;
  return createHash('sha256')
    .update(isJti ? `jti ${text}` : text)
    .digest('hex');
}

const isPossibleToken = (text: string): boolean => /^[\x21-\x7e]{16,255}$/.test(text);
