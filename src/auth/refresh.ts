// Rotates refresh tokens. Each is valid for one rotation; a later reuse revokes the login.
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

export interface RotateOptions extends NewTokenOptions {
  /**
   * For this many milliseconds after a rotation, presenting the old token again fails as `used` but does not
   * revoke the login: two tabs may rotate at once, or a client may retry after a lost response.
   * 0 to 3,600,000, default 10,000. With 0, every reuse revokes the login.
   */
  reuseGraceMs?: number;
}

/**
 * Replaces a refresh token with a new one of the same family. Of several simultaneous rotations, one
 * succeeds; the others fail as `used`, and the new token stays valid.
 *
 * A token that is presented `reuseGraceMs` or more after its rotation may be stolen. It fails as `reused`,
 * and its family is revoked, including access tokens. Pass the pool, because the error would roll back a
 * surrounding transaction, and with it the revocation.
 *
 * A login has no maximum age. It lasts while each token is rotated within its lifetime, until it is revoked.
 * @throws TokenError with the reason; ValidationError for invalid arguments.
 */
export async function rotateRefreshToken(
  coreDb: AnyDatabase,
  token: PresentedToken,
  options: RotateOptions = {},
): Promise<IssuedToken> {
  const { reuseGraceMs = 10_000, ...rest } = requireFields(options, 'options');
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
