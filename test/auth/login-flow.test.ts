// A whole life of a login: in, refreshed, out, reset, changed.
import { expect, test } from 'vitest';
import {
  authenticate,
  changePassword,
  createUser,
  issueToken,
  resetPassword,
  revokeToken,
  rotateRefreshToken,
  TokenError,
  verifyToken,
} from '../../src/auth/index.ts';
import { testPool } from '../support/database.ts';

const core = await testPool('core');

interface Client {
  ipAddress: string;
  userAgent?: string;
}

// A login form. Not ok: answer 401, or 429 with Retry-After, and say no more than that.
async function logIn(email: string, password: string, client: Client) {
  const login = await authenticate(core, { email, password, ...client });
  return login.ok
    ? { ok: true as const, user: login.user, ...(await startSession(login.user.id, client)) }
    : login;
}

// A refresh token begins a login; an access token with its familyId ends with it.
async function startSession(userId: string, client: Client) {
  const refresh = await issueToken(core, { userId, type: 'refresh', ...client });
  const access = await issueToken(core, { userId, type: 'access', familyId: refresh.familyId, ...client });
  return { refresh: refresh.token, access: access.token };
}

// Every request. Undefined: answer 401, whatever the reason in the error is.
async function whoAsks(accessToken: string) {
  try {
    return await verifyToken(core, accessToken, 'access');
  } catch (error) {
    if (error instanceof TokenError) return undefined;
    throw error;
  }
}

// When the access token has expired. The old refresh token is used up, whoever presents it again.
async function refreshSession(refreshToken: string, client: Client) {
  const refresh = await rotateRefreshToken(core, refreshToken, client);
  const { userId, familyId } = refresh;
  const access = await issueToken(core, { userId, type: 'access', familyId, ...client });
  return { refresh: refresh.token, access: access.token };
}

// Ends the whole login, whichever of its tokens is given.
const logOut = (token: string) => revokeToken(core, token);

// "Forgot your password?": answer the same whether the e-mail is known or not, and send the token by mail.
async function requestReset(email: string) {
  const { rows } = await core.query<{ id: string }>(
    'SELECT id FROM users WHERE email = lower($1) AND is_active',
    [email],
  );
  return rows[0] && (await issueToken(core, { userId: rows[0].id, type: 'password_reset' })).token;
}

// The page behind the link. Every other login of the user is over; this client gets a new one.
async function finishReset(token: string, password: string, client: Client) {
  const user = await resetPassword(core, token, password);
  return await startSession(user.id, client);
}

// A logged-in user. Wrong guesses of the current password count like failed logins.
async function replacePassword(userId: string, currentPassword: string, newPassword: string, client: Client) {
  const change = await changePassword(core, { userId, currentPassword, newPassword, ...client });
  return change.ok ? { ok: true as const, ...(await startSession(userId, client)) } : change;
}

test('log in, ask, refresh, log out, reset and change the password', async () => {
  const client = { ipAddress: '192.0.2.1', userAgent: 'Test/1' };
  const { id } = await createUser(core, { email: 'ada@example.com', password: 'first', name: 'Ada' });

  const login = await logIn('Ada@Example.com', 'first', client);
  if (!login.ok) throw new Error(login.reason);
  expect(await whoAsks(login.access)).toMatchObject({ userId: id, roles: [] });
  expect(await whoAsks(login.refresh)).toBeUndefined();

  const second = await refreshSession(login.refresh, client);
  expect(await whoAsks(second.access)).toMatchObject({ userId: id });
  await expect(refreshSession(login.refresh, client)).rejects.toThrow(TokenError);

  expect(await logOut(second.refresh)).toBe(4);
  expect([await whoAsks(login.access), await whoAsks(second.access)]).toEqual([undefined, undefined]);

  expect(await requestReset('nobody@example.com')).toBeUndefined();
  const token = (await requestReset('ADA@example.com')) ?? '';
  const reset = await finishReset(token, 'second', client);
  expect(await whoAsks(reset.access)).toMatchObject({ userId: id });
  await expect(finishReset(token, 'third', client)).rejects.toThrow(TokenError);

  expect(await replacePassword(id, 'first', 'third', client)).toEqual({ ok: false, reason: 'credentials' });
  const changed = await replacePassword(id, 'second', 'third', client);
  if (!changed.ok) throw new Error(changed.reason);
  expect([await whoAsks(reset.access), (await whoAsks(changed.access))?.userId]).toEqual([undefined, id]);
  expect(await logIn('ada@example.com', 'second', client)).toEqual({ ok: false, reason: 'credentials' });
});
