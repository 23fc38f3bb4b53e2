// Tokens: stored as hashes, good for one type, until they expire, are used or revoked.
import { createHash, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  assignRole,
  consumeToken,
  issueToken,
  revokeToken,
  revokeUserTokens,
  TokenError,
  type TokenType,
  tokenLifetimesMs,
  verifyToken,
} from '../../src/auth/index.ts';
import { UserReferenceError, ValidationError, withTransaction } from '../../src/index.ts';
import { testPool } from '../support/database.ts';
import { addToken, addUser, age, failure } from './support.ts';

const db = await testPool('core');
await db.query("INSERT INTO roles (name) VALUES ('driver')");
const reason = async (attempt: Promise<unknown>) =>
  ((await failure(attempt)) as TokenError | undefined)?.reason;

test('a token is 32 random bytes, of which the database knows the SHA-256', async () => {
  const user = await addUser(db);
  const { token, id } = await addToken(db, user, { ipAddress: '::ffff:192.0.2.9', userAgent: 'Test/1' });
  expect(Buffer.from(token, 'base64url')).toHaveLength(32);
  const { rows } = await db.query(
    'SELECT token_hash, host(ip_address) AS ip, user_agent, auth_tokens::text AS row FROM auth_tokens WHERE id = $1',
    [id],
  );
  expect(rows).toMatchObject([
    { token_hash: createHash('sha256').update(token).digest('hex'), ip: '192.0.2.9', user_agent: 'Test/1' },
  ]);
  expect(rows[0]?.row).not.toContain(token);
});

test.each(Object.entries(tokenLifetimesMs))(
  '%s lives %d ms and verifies as itself only',
  async (name, ms) => {
    const type = name as TokenType;
    const user = await addUser(db);
    await assignRole(db, user.id, 'driver');
    const { token, ...issued } = await addToken(db, user, { type });
    // The statement's own start and created_at differ by less than a second.
    expect(Math.abs(issued.expiresAt.getTime() - issued.createdAt.getTime() - ms)).toBeLessThan(1_000);
    expect(await verifyToken(db, token, type)).toEqual({ ...issued, roles: ['driver'] });
    for (const other of Object.keys(tokenLifetimesMs).filter((candidate) => candidate !== type)) {
      expect(await reason(verifyToken(db, token, other as TokenType))).toBe('wrong type');
    }
    expect(issued.familyId === null).toBe(type !== 'refresh');
  },
);

test('expiry is exact to the millisecond, by the clock of the database', async () => {
  const user = await addUser(db);
  const { token, id, expiresAt } = await addToken(db, user, { lifetimeMs: 60_000 });
  const { rows } = await db.query(
    'SELECT expires_at = $2::timestamptz AS same FROM auth_tokens WHERE id = $1',
    [id, expiresAt],
  );
  expect(rows).toEqual([{ same: true }]);
  await age(db, id, 30_000);
  await verifyToken(db, token, 'password_reset');
  await db.query(
    "UPDATE auth_tokens SET created_at = now() - interval '1 h', expires_at = clock_timestamp() - interval '1 ms' WHERE id = $1",
    [id],
  );
  expect(await reason(verifyToken(db, token, 'password_reset'))).toBe('expired');
  expect(await reason(consumeToken(db, token, 'password_reset'))).toBe('expired');
  const { rows: after } = await db.query('SELECT used_at FROM auth_tokens WHERE id = $1', [id]);
  expect(after).toEqual([{ used_at: null }]);
});

test('in a transaction that lasts longer than the token, the token expires all the same', async () => {
  const user = await addUser(db);
  const { token } = await addToken(db, user, { lifetimeMs: 50 });
  const found = withTransaction(db, async (transaction) => {
    await transaction.query('SELECT pg_sleep(0.06)');
    return await reason(verifyToken(transaction, token, 'password_reset'));
  });
  expect(await found).toBe('expired');
});

test('a user who is not active gets no token, and the tokens of one do not verify', async () => {
  const user = await addUser(db);
  const { token } = await addToken(db, user);
  await db.query('UPDATE users SET is_active = false WHERE id = $1', [user.id]);
  expect(await reason(verifyToken(db, token, 'password_reset'))).toBe('inactive user');
  expect(await reason(consumeToken(db, token, 'password_reset'))).toBe('inactive user');
  await expect(addToken(db, user)).rejects.toMatchObject({ name: 'UserReferenceError', reason: 'inactive' });
  await expect(issueToken(db, { userId: randomUUID(), type: 'access' })).rejects.toThrow(UserReferenceError);
});

test('50 consumptions at once: one succeeds', async () => {
  const { token } = await addToken(db, await addUser(db));
  const attempts = await Promise.all(
    Array.from({ length: 50 }, () =>
      consumeToken(db, token, 'password_reset').then(
        () => 'consumed',
        (error: TokenError) => error.reason,
      ),
    ),
  );
  expect(attempts.filter((attempt) => attempt === 'consumed')).toHaveLength(1);
  expect(attempts.filter((attempt) => attempt === 'used')).toHaveLength(49);
  expect(await reason(verifyToken(db, token, 'password_reset'))).toBe('used');
});

test('a consumption that is rolled back did not happen', async () => {
  const { token } = await addToken(db, await addUser(db), { type: 'email_verification' });
  await failure(
    withTransaction(db, async (transaction) => {
      await consumeToken(transaction, token, 'email_verification');
      throw new Error('rolled back');
    }),
  );
  expect(await consumeToken(db, token, 'email_verification')).toMatchObject({ type: 'email_verification' });
});

test('access and refresh tokens are not consumed', async () => {
  const user = await addUser(db);
  for (const type of ['access', 'refresh'] as const) {
    const { token } = await addToken(db, user, { type });
    await expect(consumeToken(db, token, type as never)).rejects.toThrow(ValidationError);
    expect(await verifyToken(db, token, type)).toMatchObject({ type });
  }
});

test('the jti of a JWT opens what it was stored for when it is presented as one, and nothing as a bearer token', async () => {
  const user = await addUser(db);
  const jti = randomUUID();
  const issued = await issueToken(db, { userId: user.id, type: 'access', jti });
  expect(issued.token).toBe(jti);
  expect(await verifyToken(db, { jti }, 'access')).toMatchObject({ userId: user.id });
  expect(await reason(verifyToken(db, jti, 'access'))).toBe('unknown');
  await expect(issueToken(db, { userId: user.id, type: 'access', jti })).rejects.toThrow(/stored before/);
  const secret = await addToken(db, user, { type: 'access' });
  expect(await reason(verifyToken(db, { jti: secret.token }, 'access'))).toBe('unknown');
  expect(await revokeToken(db, jti)).toBe(0);
  expect(await revokeToken(db, { jti })).toBe(1);
  expect(await reason(verifyToken(db, { jti }, 'access'))).toBe('revoked');
  await expect(verifyToken(db, {} as never, 'access')).rejects.toThrow(ValidationError);
});

test('revoking the refresh tokens ends the access tokens of the same logins, and no others', async () => {
  const user = await addUser(db);
  const { familyId } = await addToken(db, user, { type: 'refresh' });
  const ofLogin = await addToken(db, user, { type: 'access', familyId });
  const alone = await addToken(db, user, { type: 'access' });
  expect(await revokeUserTokens(db, user.id, { type: 'refresh' })).toBe(2);
  expect(await reason(verifyToken(db, ofLogin.token, 'access'))).toBe('revoked');
  expect(await verifyToken(db, alone.token, 'access')).toMatchObject({ id: alone.id });
});

test('revokeToken ends the token alone or its whole login, and is not an error a second time', async () => {
  const user = await addUser(db);
  const refresh = await addToken(db, user, { type: 'refresh' });
  const access = await addToken(db, user, { type: 'access', familyId: refresh.familyId });
  const apart = await addToken(db, user, { type: 'access' });
  expect(await revokeToken(db, apart.token)).toBe(1);
  await verifyToken(db, access.token, 'access');
  expect(await revokeToken(db, access.token)).toBe(2);
  expect(await reason(verifyToken(db, refresh.token, 'refresh'))).toBe('revoked');
  expect(await revokeToken(db, refresh.token)).toBe(0);
  expect(await revokeToken(db, 'never issued to anybody')).toBe(0);
});

test('an access token cannot join a login that is over, or that of somebody else', async () => {
  const user = await addUser(db);
  const refresh = await addToken(db, user, { type: 'refresh' });
  const { familyId } = refresh;
  expect(await reason(addToken(db, await addUser(db), { type: 'access', familyId }))).toBe('revoked');
  await expect(addToken(db, user, { familyId })).rejects.toThrow(/familyId is for access tokens/);
  await revokeToken(db, refresh.token);
  expect(await reason(addToken(db, user, { type: 'access', familyId }))).toBe('revoked');
});

test('revokeUserTokens revokes one type or all, of this user only', async () => {
  const [user, other] = [await addUser(db), await addUser(db)];
  const tokens = {
    access: await addToken(db, user, { type: 'access' }),
    refresh: await addToken(db, user, { type: 'refresh' }),
  };
  const foreign = await addToken(db, other, { type: 'access' });
  expect(await revokeUserTokens(db, user.id, { type: 'access' })).toBe(1);
  await verifyToken(db, tokens.refresh.token, 'refresh');
  expect(await revokeUserTokens(db, user.id)).toBe(1);
  expect(await reason(verifyToken(db, tokens.refresh.token, 'refresh'))).toBe('revoked');
  await verifyToken(db, foreign.token, 'access');
  await expect(revokeUserTokens(db, randomUUID())).rejects.toThrow(UserReferenceError);
});

test('works inside of an open transaction', async () => {
  const user = await addUser(db);
  await withTransaction(db, async (transaction) => {
    const refresh = await issueToken(transaction, { userId: user.id, type: 'refresh' });
    const access = await issueToken(transaction, {
      userId: user.id,
      type: 'access',
      familyId: refresh.familyId,
    });
    expect(await verifyToken(transaction, access.token, 'access')).toMatchObject({ userId: user.id });
    expect(await revokeUserTokens(transaction, user.id)).toBe(2);
    expect(await failure(verifyToken(transaction, access.token, 'access'))).toBeInstanceOf(TokenError);
    // No refusal leaves the transaction unusable.
    expect(await transaction.query('SELECT 1 AS one')).toMatchObject({ rows: [{ one: 1 }] });
  });
});
