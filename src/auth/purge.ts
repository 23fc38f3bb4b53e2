// Deletes expired tokens and login counters, in batches that keep transactions short.
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { requireFields, requireInteger } from './arguments.ts';

export interface PurgeOptions {
  /** Rows examined by one statement, 1 to 100,000. Default 1,000. */
  batchSize?: number;
  /** Called after each batch with the number of rows deleted so far. */
  onProgress?: (deleted: number) => void;
}

/**
 * Deletes expired tokens. Keeps the refresh tokens of a family that can still be rotated: the reuse of an old
 * refresh token indicates theft even after it expired. Several purges may run at once.
 * @returns the number of deleted tokens.
 * @throws ValidationError for an option out of range.
 */
export async function purgeExpiredTokens(coreDb: AnyDatabase, options: PurgeOptions = {}): Promise<number> {
  return await purge(coreDb, 'auth_tokens', `AND ${isOver('doomed')}`, options);
}

/**
 * SQL condition: whether the purge may delete a token. Counting and deleting share it. It uses
 * statement_timestamp(), because PostgreSQL uses no index for a comparison with clock_timestamp().
 * @param token the alias of auth_tokens.
 */
export const isOver = (token: string): string =>
  `(${token}.expires_at <= statement_timestamp()
    AND (${token}.family_id IS NULL OR ${token}.token_type <> 'refresh' OR NOT EXISTS (
      SELECT FROM public.auth_tokens AS live WHERE live.family_id = ${token}.family_id AND live.token_type = 'refresh'
        AND live.used_at IS NULL AND live.revoked_at IS NULL AND live.expires_at > statement_timestamp())))`;

/** The number of rows that the two purges would delete now. */
export async function countExpired(coreDb: AnyDatabase): Promise<number> {
  const { rows } = await databaseOf(coreDb).primary.query<{ expired: number }>(
    `SELECT ((SELECT count(*) FROM auth_tokens AS token WHERE ${isOver('token')})
       + (SELECT count(*) FROM login_attempts WHERE expires_at <= statement_timestamp()))::float8 AS expired`,
  );
  return rows[0]?.expired ?? 0;
}

/**
 * Deletes expired counters of failed logins and expired known addresses. Several purges may run at once.
 * @returns the number of deleted rows.
 * @throws ValidationError for an option out of range.
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
  // Each batch starts after the previous one, because rows that are kept would otherwise be selected again.
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
