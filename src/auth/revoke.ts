// Withdrawing tokens before they expire: one login, or all that a user has.

import { tokenType } from '../../schema/core.ts';
import type { AnyDatabase } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { type Transaction, withTransaction } from '../transaction.ts';
import { requireFields, requireOneOf } from './arguments.ts';
import { findToken, lockUser, type PresentedToken, type Token, type TokenType } from './tokens.ts';

/**
 * Logs out: revokes a token, and the whole login that it belongs to. Revoking what is unknown or
 * revoked already is not an error, and changes nothing.
 * @returns how many tokens were revoked.
 * @throws ValidationError for a value that is not a token.
 */
export async function revokeToken(coreDb: AnyDatabase, token: PresentedToken): Promise<number> {
  const found = await findToken(coreDb, token);
  return found ? await revokeFamily(coreDb, found) : 0;
}

/**
 * Revokes all tokens of a user, or those of one type; with `refresh` the access tokens of these logins
 * too. Deactivating a user is not a revocation: tokens are refused while it lasts, and those that have not
 * expired are good again afterwards. To end them for good, call this as well. A rotation at the same moment is waited for or
 * comes too late: none survives.
 * @returns how many were revoked.
 * @throws UserReferenceError for an unknown user, ValidationError for other arguments.
 */
export async function revokeUserTokens(
  coreDb: AnyDatabase,
  userId: string,
  options: { type?: TokenType } = {},
): Promise<number> {
  const { type } = requireFields(options, 'options');
  const wanted = type === undefined ? null : requireOneOf(type, 'type', tokenType.enumValues);
  const owner = requireUuid(userId, 'userId');
  return await withTransaction(coreDb, async (transaction) => {
    await lockUser(transaction, owner);
    return await revokeTokens(transaction, owner, wanted);
  });
}

/** Within a transaction that holds the user's row. */
export async function revokeTokens(
  transaction: Transaction,
  userId: string,
  type: TokenType | null,
): Promise<number> {
  const { rowCount } = await transaction.query(
    `UPDATE auth_tokens SET revoked_at = clock_timestamp()
     WHERE user_id = $1 AND revoked_at IS NULL AND ($2::token_type IS NULL OR token_type = $2
       OR ($2 = 'refresh' AND token_type = 'access' AND family_id IS NOT NULL))`,
    [userId, type],
  );
  return rowCount;
}

/** The token and, where it has one, its whole family. */
export async function revokeFamily(coreDb: AnyDatabase, { id, userId, familyId }: Token): Promise<number> {
  return await withTransaction(coreDb, async (transaction) => {
    await lockUser(transaction, userId);
    const { rowCount } = await transaction.query(
      `UPDATE auth_tokens SET revoked_at = clock_timestamp()
       WHERE (id = $1 OR family_id = $2) AND revoked_at IS NULL`,
      [id, familyId],
    );
    return rowCount;
  });
}
