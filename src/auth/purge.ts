// Purges what has expired, in batches, so that no transaction is long.
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireFields, requireInteger } from './arguments.ts';

export interface PurgeOptions {
  /** Rows looked at in one statement. Default 1,000. */
  batchSize?: number;
  /** Called after each batch with the rows deleted so far. */
  onProgress?: (deleted: number) => void;
}

/**
 * Deletes expired tokens. A rotated refresh token stays for as long as its family can be rotated: when
 * it comes back, even after it expired, it gives a thief away. Several purges may run at once.
 * @returns how many were deleted.
 */
export async function purgeExpiredTokens(coreDb: AnyDatabase, options: PurgeOptions = {}): Promise<number> {
  return await purge(coreDb, 'auth_tokens', `AND ${isOver('doomed')}`, options);
}

/**
 * SQL: whether a token has no further use. What counts tokens that are due, and what deletes them, asks this.
 * The statement's time: by a clock that moves on, no index would be used.
 * @param token the alias of auth_tokens.
 */
export const isOver = (token: string): string =>
  `(${token}.expires_at <= statement_timestamp()
    AND (${token}.family_id IS NULL OR ${token}.token_type <> 'refresh' OR NOT EXISTS (
      SELECT FROM public.auth_tokens AS live WHERE live.family_id = ${token}.family_id AND live.token_type = 'refresh'
        AND live.used_at IS NULL AND live.revoked_at IS NULL AND live.expires_at > statement_timestamp())))`;

/** How many rows the two purges would delete now. */
export async function countExpired(coreDb: AnyDatabase): Promise<number> {
  const { rows } = await databaseOf(coreDb).primary.query<{ expired: number }>(
    `SELECT ((SELECT count(*) FROM auth_tokens AS token WHERE ${isOver('token')})
       + (SELECT count(*) FROM login_attempts WHERE expires_at <= statement_timestamp()))::float8 AS expired`,
  );
  return rows[0]?.expired ?? 0;
}

/**
 * Deletes counters of failed logins that mean nothing any more, and addresses that are forgotten.
 * @returns how many were deleted.
 */
export async function purgeLoginAttempts(coreDb: AnyDatabase, options: PurgeOptions = {}): Promise<number> {
  return await purge(coreDb, 'login_attempts', '', options);
}

async function purge(
  coreDb: AnyDatabase,
  table: 'auth_tokens' | 'login_attempts',
  condition: string,
  options: PurgeOptions,
): Promise<number> {
  const { batchSize = 1_000, onProgress } = requireFields(options, 'options');
  requireInteger(batchSize, 'batchSize', 1, 100_000);
  let deleted = 0;
  // Rows that must stay would come again in every batch: each one begins where the last one ended.
  let after: readonly [string | null, string | null] = [null, null];
  for (;;) {
    const { rows } = await databaseOf(coreDb).query<{
      deleted: number;
      looked: number;
      time: string;
      id: string;
    }>(
      `WITH batch AS (
         SELECT id, expires_at FROM ${table} WHERE expires_at <= statement_timestamp()
           AND ($1::timestamptz IS NULL OR (expires_at, id) > ($1::timestamptz, $2::uuid))
         ORDER BY expires_at, id LIMIT $3
       ), doomed AS (
         SELECT id FROM ${table} AS doomed WHERE id IN (SELECT id FROM batch)
           AND expires_at <= statement_timestamp() ${condition} FOR UPDATE SKIP LOCKED
       ), gone AS (
         DELETE FROM ${table} WHERE id IN (SELECT id FROM doomed) RETURNING id
       )
       SELECT (SELECT count(*)::int FROM gone) AS deleted, (SELECT count(*)::int FROM batch) AS looked,
         expires_at::text AS time, id FROM batch ORDER BY expires_at DESC, id DESC LIMIT 1`,
      [...after, batchSize],
    );
    const [last] = rows;
    deleted += last?.deleted ?? 0;
    if (last) onProgress?.(deleted);
    if (!last || last.looked < batchSize) return deleted;
    after = [last.time, last.id];
  }
}
