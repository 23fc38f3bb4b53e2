// What the tests of authentication share: cheap users, and a look at everything that may not change.
import { hashSync } from 'bcryptjs';
import type * as core from '../../schema/core.ts';
import { issueToken } from '../../src/auth/index.ts';
import type { Pool } from '../../src/index.ts';

export type Core = Pool<typeof core>;

/** The cheapest cost that the library takes. */
export const cost = 10;
export const password = 'correct horse ñ';
/** Below any cost that the library would make: an old hash. */
export const oldHash = hashSync(password, 4);
export const currentHash = hashSync(password, cost);

let counter = 0;

export interface TestUser {
  id: string;
  email: string;
}

export async function addUser(
  db: Core,
  { active = true, hash = currentHash }: { active?: boolean; hash?: string } = {},
): Promise<TestUser> {
  counter += 1;
  const { rows } = await db.query<TestUser>(
    `INSERT INTO users (email, password_hash, name, is_active) VALUES ($1, $2, 'Test', $3) RETURNING id, email`,
    [`user${counter}@example.com`, hash, active],
  );
  const [user] = rows;
  if (!user) throw new Error('no user');
  return user;
}

export const addToken = (db: Core, user: TestUser, options: Partial<Parameters<typeof issueToken>[1]> = {}) =>
  issueToken(db, { userId: user.id, type: 'password_reset', ...options });

/** Moves a token's times, as if it had been issued and used that long ago. */
export async function age(db: Core, tokenId: string, milliseconds: number): Promise<void> {
  await db.query(
    `UPDATE auth_tokens SET created_at = created_at - $2::float8 * interval '1 ms',
       expires_at = expires_at - $2::float8 * interval '1 ms', used_at = used_at - $2::float8 * interval '1 ms'
     WHERE id = $1`,
    [tokenId, milliseconds],
  );
}

/** One hash over all rows of all tables. */
export async function fingerprint(db: Core): Promise<string> {
  const tables = ['users', 'auth_tokens', 'roles', 'user_roles', 'user_metadata', 'login_attempts'];
  const { rows } = await db.query<{ md5: string }>(
    `SELECT md5(string_agg(one, '|')) FROM (${tables
      .map(
        (table) =>
          `(SELECT '${table}' || coalesce(string_agg(t::text, ',' ORDER BY t.id), '') AS one FROM ${table} t)`,
      )
      .join(' UNION ALL ')}) AS tables`,
  );
  return rows[0]?.md5 ?? '';
}

export const failure = (attempt: Promise<unknown>) =>
  attempt.then(
    () => undefined,
    (error: unknown) => error,
  );

/** Resolves when a statement that contains this text waits for a lock. */
export async function blockedStatement(db: Core, text: string): Promise<void> {
  for (;;) {
    const { rowCount } = await db.query(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
         AND position($1 IN query) > 0`,
      [text],
    );
    if (rowCount > 0) return;
  }
}
