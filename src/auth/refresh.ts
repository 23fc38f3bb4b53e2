// Refresh tokens: each is good for one rotation, and one that comes back ends the login.
import type { AnyDatabase } from '../pool.ts';
import { requireFields, requireInteger } from './arguments.ts';
import { TokenError } from './errors.ts';
import { revokeFamily } from './revoke.ts';
import {
  failureOf,
  findToken,
  hashToken,
  type IssuedToken,
  insertToken,
  isUsable,
  type NewTokenOptions,
  type PresentedToken,
  parseNewToken,
  presented,
} from './tokens.ts';

const defaultReuseGraceMs = 10_000;

export interface RotateOptions extends NewTokenOptions {
  /**
   * How long after its rotation a token may come back without ending the login: two tabs, or a retry
   * after a lost answer. It opens nothing in that time either. Default 10,000 ms; 0 forgives nothing.
   */
  reuseGraceMs?: number;
}

/**
 * Replaces a refresh token by a new one of the same family. Of any number of rotations at once one
 * succeeds; the others fail as `used` and leave the winner's token alone. A token that comes back
 * after `reuseGraceMs` was stolen from or by somebody: `reused`, and the whole family is revoked,
 * access tokens that were issued with it included. Inside of a transaction let that error commit, or
 * the revocation is rolled back: pass the pool. A login has no maximum age: it lasts for as long as each
 * token is rotated in its lifetime, until it is revoked, as by a new password.
 * @throws TokenError with the reason, ValidationError for arguments that are none.
 */
export async function rotateRefreshToken(
  coreDb: AnyDatabase,
  token: PresentedToken,
  options: RotateOptions = {},
): Promise<IssuedToken> {
  const { reuseGraceMs = defaultReuseGraceMs, ...rest } = requireFields(options, 'options');
  requireInteger(reuseGraceMs, 'reuseGraceMs', 0, 60 * 60_000);
  const hash = hashToken(token);
  const next = await insertToken(coreDb, parseNewToken('refresh', rest), rotatedOwner, [hash]);
  if (next) return next;
  const found = await findToken(coreDb, token);
  const failure = failureOf(found, 'refresh') ?? 'inactive user';
  if (found && failure === 'used' && (found.usedMsAgo ?? 0) >= reuseGraceMs) {
    await revokeFamily(coreDb, found);
    throw new TokenError('reused');
  }
  throw new TokenError(failure);
}

const rotatedOwner = `${presented('$6', "'refresh'")}, owner AS (
    UPDATE auth_tokens AS token SET used_at = clock_timestamp(), family_id = coalesce(token.family_id, token.id)
    FROM presented WHERE ${isUsable} RETURNING token.user_id, token.family_id
  )`;
