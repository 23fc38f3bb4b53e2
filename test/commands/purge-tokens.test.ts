// purge-tokens: what is over goes, what reuse detection still needs stays.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  authenticate,
  issueToken,
  purgeExpiredTokens,
  purgeLoginAttempts,
  revokeToken,
  rotateRefreshToken,
  type TokenError,
} from '../../src/auth/index.ts';
import { countExpired } from '../../src/auth/purge.ts';
import { ValidationError } from '../../src/index.ts';
import { addToken, addUser, age, cost, failure, password } from '../auth/support.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { migratedDatabase, openPool } from '../support/database.ts';
import { examine } from '../support/doctor.ts';

const url = await migratedDatabase('core');
const db = openPool('core', url);
const longAgo = 60 * 24 * 60 * 60_000;
const exists = async (id: string) =>
  (await db.query('SELECT 1 FROM auth_tokens WHERE id = $1', [id])).rowCount === 1;

test('expired tokens go, in batches; live, used and revoked ones stay until they expire', async () => {
  const user = await addUser(db);
  const live = await addToken(db, user, { type: 'access' });
  const revoked = await addToken(db, user, { type: 'access' });
  await revokeToken(db, revoked.token);
  for (let count = 0; count < 7; count += 1) await age(db, (await addToken(db, user)).id, longAgo);
  const progress: number[] = [];
  expect(
    await purgeExpiredTokens(db, { batchSize: 3, onProgress: (deleted) => progress.push(deleted) }),
  ).toBe(7);
  expect(progress).toEqual([3, 6, 7]);
  expect([await exists(live.id), await exists(revoked.id)]).toEqual([true, true]);
  await age(db, revoked.id, longAgo);
  expect(await purgeExpiredTokens(db)).toBe(1);
  await expect(purgeExpiredTokens(db, { batchSize: 0 })).rejects.toThrow(ValidationError);
});

test('a rotated token outlives its expiry while its family can be rotated, and still gives a thief away', async () => {
  const user = await addUser(db);
  const first = await addToken(db, user, { type: 'refresh' });
  const second = await rotateRefreshToken(db, first.token);
  const access = await issueToken(db, { userId: user.id, type: 'access', familyId: second.familyId });
  await age(db, first.id, longAgo);
  await age(db, access.id, longAgo);
  // More kept rows than a batch holds do not end the purge.
  await age(db, (await addToken(db, user)).id, longAgo / 2);
  // The command's bar and the doctor count by the same rule.
  expect(await countExpired(db)).toBe(2);
  expect(await examine(db, 'core', 'tokens', { tokens: { expired: 2 } })).toEqual([]);
  expect(await purgeExpiredTokens(db, { batchSize: 1 })).toBe(2);
  expect([await exists(first.id), await exists(access.id)]).toEqual([true, false]);
  expect(((await failure(rotateRefreshToken(db, first.token))) as TokenError).reason).toBe('reused');
  // Revoked now: nothing of the family can be rotated, so what has expired may go.
  expect(await purgeExpiredTokens(db)).toBe(1);
  expect([await exists(first.id), await exists(second.id)]).toEqual([false, true]);
});

test('purges at once share the work', async () => {
  const user = await addUser(db);
  await db.query(
    `INSERT INTO auth_tokens (user_id, token_type, token_hash, created_at, expires_at)
     SELECT $1, 'access', encode(sha256(n::text::bytea), 'hex'), now() - interval '2 h', now() - interval '1 h'
     FROM generate_series(1, 2000) AS n`,
    [user.id],
  );
  const purges = await Promise.all([1, 2, 3, 4].map(() => purgeExpiredTokens(db, { batchSize: 100 })));
  expect(purges.reduce((sum, deleted) => sum + deleted)).toBe(2000);
});

test('counters go when they mean nothing, addresses when they are forgotten', async () => {
  const { email } = await addUser(db);
  await authenticate(db, { email, password, ipAddress: '192.0.2.1' }, { cost });
  await authenticate(db, { email, password: 'wrong' }, { cost });
  const types = async () =>
    (await db.query<{ type: string }>('SELECT subject_type AS type FROM login_attempts ORDER BY 1')).rows.map(
      ({ type }) => type,
    );
  await db.query(
    "UPDATE login_attempts SET expires_at = clock_timestamp() - interval '1 ms' WHERE subject_type = 'address'",
  );
  expect(await purgeLoginAttempts(db)).toBe(1);
  expect(await types()).toEqual(['account', 'known_address']);
  await db.query("UPDATE login_attempts SET expires_at = expires_at - interval '91 days'");
  expect(await purgeLoginAttempts(db)).toBe(2);
});

test('the command reports what it deleted, in words and as JSON', async () => {
  const user = await addUser(db);
  const environment = environmentFor('core', url);
  await age(db, (await addToken(db, user)).id, longAgo);
  await db.query(
    `INSERT INTO login_attempts (subject_type, subject, forgiven_at, expires_at)
     VALUES ('account', $1, now() - interval '1 h', now() - interval '1 h')`,
    [randomUUID().replaceAll('-', '').repeat(2)],
  );
  expect(await runCli(['purge-tokens'], environment)).toEqual({
    code: 0,
    stdout: expect.stringMatching(/\n\ncore {6}1 token and 1 login counter deleted\n$/),
    stderr: '',
  });
  const json = await runCli(['purge-tokens', '--json'], environment);
  expect(JSON.parse(json.stdout)).toEqual({ tokens: 0, loginAttempts: 0 });
  expect(await runCli(['purge-tokens', 'core'], environment)).toMatchObject({ code: 2 });
});
