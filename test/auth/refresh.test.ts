// Rotation of refresh tokens: one winner, and a stolen one that comes back ends the login.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  issueToken,
  revokeToken,
  revokeUserTokens,
  rotateRefreshToken,
  type TokenError,
  verifyToken,
} from '../../src/auth/index.ts';
import { type Transaction, withTransaction } from '../../src/index.ts';
import { testPool } from '../support/database.ts';
import { addToken, addUser, age, blockedStatement, failure } from './support.ts';

const db = await testPool('core');
const reason = async (attempt: Promise<unknown>) =>
  ((await failure(attempt)) as TokenError | undefined)?.reason;
const login = async () => {
  const user = await addUser(db);
  return { user, refresh: await addToken(db, user, { type: 'refresh' }) };
};

test('a rotation gives a new token of the same family, and the old one is used up', async () => {
  const { user, refresh } = await login();
  const next = await rotateRefreshToken(db, refresh.token, { ipAddress: '192.0.2.1', lifetimeMs: 60_000 });
  expect(next).toMatchObject({ userId: user.id, type: 'refresh', familyId: refresh.familyId });
  expect(next.token).not.toBe(refresh.token);
  expect(await verifyToken(db, next.token, 'refresh')).toMatchObject({ id: next.id });
  expect(await reason(verifyToken(db, refresh.token, 'refresh'))).toBe('used');
  const jti = randomUUID();
  expect(await rotateRefreshToken(db, next.token, { jti })).toMatchObject({ token: jti });
  expect(await rotateRefreshToken(db, { jti })).toMatchObject({ familyId: refresh.familyId });
});

test('50 rotations at once: one wins, and the losers leave its token alone', async () => {
  const { refresh } = await login();
  const attempts = await Promise.all(
    Array.from({ length: 50 }, () =>
      rotateRefreshToken(db, refresh.token).then(
        ({ token }) => ({ token }),
        (error: TokenError) => ({ reason: error.reason }),
      ),
    ),
  );
  const winners = attempts.filter((attempt): attempt is { token: string } => 'token' in attempt);
  expect(winners).toHaveLength(1);
  expect(attempts.filter((attempt) => 'reason' in attempt && attempt.reason === 'used')).toHaveLength(49);
  expect(await verifyToken(db, winners[0]?.token ?? '', 'refresh')).toMatchObject({ type: 'refresh' });
});

test('a rotated token that comes back later revokes the family, access tokens included, and no other', async () => {
  const { user, refresh } = await login();
  const elsewhere = await addToken(db, user, { type: 'refresh' });
  const next = await rotateRefreshToken(db, refresh.token);
  const access = await issueToken(db, { userId: user.id, type: 'access', familyId: next.familyId });
  expect(await reason(rotateRefreshToken(db, refresh.token))).toBe('used');
  await age(db, refresh.id, 10_001);
  expect(await reason(rotateRefreshToken(db, refresh.token))).toBe('reused');
  expect(await reason(rotateRefreshToken(db, next.token))).toBe('revoked');
  expect(await reason(verifyToken(db, access.token, 'access'))).toBe('revoked');
  expect(await verifyToken(db, elsewhere.token, 'refresh')).toMatchObject({ userId: user.id });
  expect(await reason(rotateRefreshToken(db, refresh.token))).toBe('revoked');
});

test('a rotated token gives a thief away even after it expired, or with no grace at all', async () => {
  const first = await login();
  const next = await rotateRefreshToken(db, first.refresh.token);
  await age(db, first.refresh.id, 40 * 24 * 60 * 60_000);
  expect(await reason(rotateRefreshToken(db, first.refresh.token))).toBe('reused');
  expect(await reason(verifyToken(db, next.token, 'refresh'))).toBe('revoked');
  const second = await login();
  await rotateRefreshToken(db, second.refresh.token);
  expect(await reason(rotateRefreshToken(db, second.refresh.token, { reuseGraceMs: 0 }))).toBe('reused');
});

test('what was revoked, has expired, is of another type or of an inactive user is not rotated', async () => {
  const revoked = await login();
  await revokeToken(db, revoked.refresh.token);
  expect(await reason(rotateRefreshToken(db, revoked.refresh.token))).toBe('revoked');
  const expired = await login();
  await age(db, expired.refresh.id, 30 * 24 * 60 * 60_000 + 1);
  expect(await reason(rotateRefreshToken(db, expired.refresh.token))).toBe('expired');
  const { user } = expired;
  const access = await addToken(db, user, { type: 'access' });
  expect(await reason(rotateRefreshToken(db, access.token))).toBe('wrong type');
  const barred = await login();
  await db.query('UPDATE users SET is_active = false WHERE id = $1', [barred.user.id]);
  expect(await reason(rotateRefreshToken(db, barred.refresh.token))).toBe('inactive user');
  await db.query('UPDATE users SET is_active = true WHERE id = $1', [barred.user.id]);
  expect(await rotateRefreshToken(db, barred.refresh.token)).toMatchObject({ type: 'refresh' });
  expect(await reason(rotateRefreshToken(db, 'x'.repeat(43)))).toBe('unknown');
});

test('a jti that was stored before rotates nothing', async () => {
  const { user, refresh } = await login();
  const jti = randomUUID();
  await addToken(db, user, { type: 'access', jti });
  await expect(rotateRefreshToken(db, refresh.token, { jti })).rejects.toThrow(/stored before/);
  expect(await rotateRefreshToken(db, refresh.token)).toMatchObject({ userId: user.id });
});

test('no token survives a revocation: not one that is rotated or issued at the same moment', async () => {
  for (let round = 0; round < 10; round += 1) {
    const { user, refresh } = await login();
    await Promise.allSettled([
      rotateRefreshToken(db, refresh.token),
      issueToken(db, { userId: user.id, type: 'access', familyId: refresh.familyId }),
      round % 2 === 0 ? revokeUserTokens(db, user.id) : revokeToken(db, refresh.token),
    ]);
    const { rows } = await db.query(
      'SELECT count(*)::int AS live FROM auth_tokens WHERE user_id = $1 AND revoked_at IS NULL',
      [user.id],
    );
    expect(rows).toEqual([{ live: 0 }]);
  }
});

test.each([
  ['a rotation', (transaction: Transaction, token: string) => rotateRefreshToken(transaction, token)],
  [
    'an issue',
    (transaction: Transaction, _token: string, userId: string) =>
      issueToken(transaction, { userId, type: 'refresh' }),
  ],
] as const)('a revocation waits for %s that has not committed, and catches its token', async (_name, act) => {
  const { user, refresh } = await login();
  let revoked: Promise<number> | undefined;
  const next = await withTransaction(db, async (transaction) => {
    const issued = await act(transaction, refresh.token, user.id);
    revoked = revokeUserTokens(db, user.id);
    await Promise.race([revoked, blockedStatement(db, 'FOR NO KEY UPDATE')]);
    return issued;
  });
  expect(await revoked).toBe(2);
  expect(await reason(verifyToken(db, next.token, 'refresh'))).toBe('revoked');
});

test('rotations of many users at once, in transactions that roll back half of them', async () => {
  const logins = await Promise.all(Array.from({ length: 10 }, login));
  const results = await Promise.allSettled(
    logins.map(({ refresh }, index) =>
      withTransaction(db, async (transaction) => {
        const next = await rotateRefreshToken(transaction, refresh.token);
        if (index % 2 === 0) throw new Error('rolled back');
        return next;
      }),
    ),
  );
  for (const [index, { refresh }] of logins.entries()) {
    expect(results[index]?.status).toBe(index % 2 === 0 ? 'rejected' : 'fulfilled');
    expect(await reason(verifyToken(db, refresh.token, 'refresh'))).toBe(
      index % 2 === 0 ? undefined : 'used',
    );
  }
});
