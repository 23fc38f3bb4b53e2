// Revokes tokens before they expire: one login, or all tokens of a user.

import { tokenType } from '../../schema/core.ts';
import type { AnyDatabase } from '../pool.ts';
import { requireUuid } from '../sql/uuid.ts';
import { type Transaction, withTransaction } from '../transaction.ts';
import { requireFields, requireOneOf } from './arguments.ts';
import { findToken, lockUser, type PresentedToken, type Token, type TokenType } from './tokens.ts';

/**
 * Logs out: revokes a token and the login that it belongs to.
 * @returns the number of revoked tokens; 0 for an unknown token or a login that is already revoked.
 * @throws ValidationError for a value that is not a token.
 */
export async function revokeToken(coreDb: AnyDatabase, token: PresentedToken): Promise<number> {
  const found = await findToken(coreDb, token);
  return found ? await revokeFamily(coreDb, found) : 0;
}

/**
 * Revokes all tokens of a user, or those of one type. The type `refresh` includes the access tokens of
 * logins. Tokens from a simultaneous rotation are revoked too.
 *
 * Deactivating a user does not revoke tokens. They are refused, but after a reactivation, those that have not
 * expired are accepted again. To prevent that, call this function too.
 * @returns the number of revoked tokens.
 * @throws UserReferenceError for an unknown user; ValidationError for other invalid arguments.
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

/** Revokes a user's tokens of one type, or all if `type` is null. The transaction must have locked the user's row. */
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

/** Revokes a token and, if it has a family, the other tokens of the family. */
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
