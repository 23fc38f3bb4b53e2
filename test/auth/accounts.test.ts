// Accounts and roles: created whole or not at all, and a new password ends every login.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  assignRole,
  authenticate,
  changePassword,
  createUser,
  EmailTakenError,
  getUserRoles,
  hasRole,
  removeRole,
  resetPassword,
  setPassword,
  type TokenError,
  UnknownRoleError,
  verifyEmail,
  verifyToken,
} from '../../src/auth/index.ts';
import { UserReferenceError, ValidationError, withTransaction } from '../../src/index.ts';
import { testPool } from '../support/database.ts';
import { addToken, addUser, blockedStatement, cost, failure, fingerprint, password } from './support.ts';

const db = await testPool('core');
await db.query("INSERT INTO roles (name) VALUES ('driver'), ('admin')");
const reason = async (attempt: Promise<unknown>) =>
  ((await failure(attempt)) as TokenError | undefined)?.reason;
const logsIn = async (email: string, secret: string) =>
  (await authenticate(db, { email, password: secret }, { cost })).ok;

test('createUser stores a lower-case e-mail, a hash and roles', async () => {
  const account = { email: 'Ada.Lovelace@Example.com', password, name: 'Ada', roles: ['driver', 'admin'] };
  const user = await createUser(db, account, { cost });
  expect(user).toMatchObject({ email: 'ada.lovelace@example.com', name: 'Ada', roles: ['admin', 'driver'] });
  expect(user).not.toHaveProperty('passwordHash');
  expect(await logsIn('ADA.lovelace@example.com', password)).toBe(true);
});

test('an e-mail that is taken in another case, or a role that does not exist, creates nothing', async () => {
  const { email } = await addUser(db);
  const before = await fingerprint(db);
  const account = { email: email.toUpperCase(), password, name: 'N' };
  await expect(createUser(db, account, { cost })).rejects.toThrow(EmailTakenError);
  await expect(
    createUser(db, { ...account, email: 'new@example.com', roles: ['driver', 'pilot'] }, { cost }),
  ).rejects.toMatchObject({ name: 'UnknownRoleError', role: 'pilot' });
  expect(await fingerprint(db)).toBe(before);
});

test('of 4 registrations of one e-mail at once, one succeeds', async () => {
  const results = await Promise.allSettled(
    Array.from({ length: 4 }, () =>
      createUser(db, { email: 'race@example.com', password, name: 'Race' }, { cost }),
    ),
  );
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const result of results) {
    if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(EmailTakenError);
  }
});

test('changePassword needs the current one, and revokes every token of the user', async () => {
  const { id, email } = await addUser(db);
  const refresh = await addToken(db, { id, email }, { type: 'refresh' });
  const change = (currentPassword: string) =>
    changePassword(db, { userId: id, currentPassword, newPassword: 'the new one' }, { cost });
  expect(await change('wrong')).toEqual({ ok: false, reason: 'credentials' });
  await verifyToken(db, refresh.token, 'refresh');
  expect(await change(password)).toEqual({ ok: true, revokedTokens: 1 });
  expect(await reason(verifyToken(db, refresh.token, 'refresh'))).toBe('revoked');
  expect([await logsIn(email, password), await logsIn(email, 'the new one')]).toEqual([false, true]);
});

test('two changes of one password at once: one wins', async () => {
  const { id } = await addUser(db);
  const results = await Promise.all(
    ['one', 'two'].map((newPassword) =>
      changePassword(db, { userId: id, currentPassword: password, newPassword }, { cost }),
    ),
  );
  expect(results.filter(({ ok }) => ok)).toHaveLength(1);
});

test('a change that cannot be finished leaves password and tokens as they were', async () => {
  const user = await addUser(db);
  const refresh = await addToken(db, user, { type: 'refresh' });
  await failure(
    withTransaction(db, async (transaction) => {
      await setPassword(transaction, user.id, 'lost', { cost });
      throw new Error('rolled back');
    }),
  );
  await verifyToken(db, refresh.token, 'refresh');
  expect(await logsIn(user.email, password)).toBe(true);
  await expect(setPassword(db, randomUUID(), 'x', { cost })).rejects.toThrow(UserReferenceError);
  await expect(setPassword(db, user.id, 'x'.repeat(73))).rejects.toThrow(ValidationError);
});

test('resetPassword uses its token up once, also of many attempts at once, and not for a bad password', async () => {
  const user = await addUser(db);
  const { token } = await addToken(db, user);
  await expect(resetPassword(db, token, '')).rejects.toThrow(ValidationError);
  const results = await Promise.allSettled(
    Array.from({ length: 3 }, (_, index) => resetPassword(db, token, `new ${index}`, { cost })),
  );
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  const winner = results.findIndex(({ status }) => status === 'fulfilled');
  expect(await logsIn(user.email, `new ${winner}`)).toBe(true);
  // The change revoked it as well, which is what it says from then on.
  expect(await reason(resetPassword(db, token, 'again', { cost }))).toBe('revoked');
});

test('verifyEmail marks the e-mail, with a token of its own type only', async () => {
  const user = await addUser(db);
  const reset = await addToken(db, user, { type: 'password_reset' });
  expect(await reason(verifyEmail(db, reset.token))).toBe('wrong type');
  const { token } = await addToken(db, user, { type: 'email_verification' });
  expect(await verifyEmail(db, token)).toMatchObject({ id: user.id, emailVerified: true });
  expect(await reason(verifyEmail(db, token))).toBe('used');
});

test('roles are given and taken once, and an inactive user may act in none', async () => {
  const { id } = await addUser(db);
  expect([await assignRole(db, id, 'driver'), await assignRole(db, id, 'driver')]).toEqual([true, false]);
  await assignRole(db, id.toUpperCase(), 'admin');
  expect(await getUserRoles(db, id)).toEqual(['admin', 'driver']);
  expect([await removeRole(db, id, 'admin'), await removeRole(db, id, 'admin')]).toEqual([true, false]);
  expect([await hasRole(db, id, 'driver'), await hasRole(db, id, 'admin')]).toEqual([true, false]);
  await db.query('UPDATE users SET is_active = false WHERE id = $1', [id]);
  expect(await hasRole(db, id, 'driver')).toBe(false);
  expect(await getUserRoles(db, id)).toEqual(['driver']);
});

test('an unknown role or user is an error by name', async () => {
  const { id } = await addUser(db);
  for (const call of [assignRole, removeRole, hasRole]) {
    await expect(call(db, id, 'pilot')).rejects.toThrow(UnknownRoleError);
    await expect(call(db, id, 'Driver')).rejects.toThrow(UnknownRoleError);
    await expect(call(db, randomUUID(), 'driver')).rejects.toThrow(UserReferenceError);
  }
  await expect(getUserRoles(db, randomUUID())).rejects.toThrow(UserReferenceError);
});

test('a user or a role that is deleted while it is given is unknown', async () => {
  await db.query("INSERT INTO roles (name) VALUES ('short-lived')");
  const kept = await addUser(db);
  const gone = await addUser(db);
  for (const [user, deletion, error] of [
    [gone, `DELETE FROM users WHERE id = '${gone.id}'`, UserReferenceError],
    [kept, "DELETE FROM roles WHERE name = 'short-lived'", UnknownRoleError],
  ] as const) {
    let assigned: Promise<unknown> = Promise.resolve();
    await withTransaction(db, async (transaction) => {
      await transaction.query(deletion);
      assigned = failure(assignRole(db, user.id, 'short-lived'));
      await blockedStatement(db, 'INSERT INTO user_roles');
    });
    expect(await assigned).toBeInstanceOf(error);
  }
});
