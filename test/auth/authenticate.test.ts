// authenticate: who gets in, what is kept, and that nobody can tell why another did not.
import { hashSync } from 'bcryptjs';
import { expect, test } from 'vitest';
import { assignRole, authenticate, setPassword, verifyPassword } from '../../src/auth/index.ts';
import { withTransaction } from '../../src/index.ts';
import { testPool } from '../support/database.ts';
import { addUser, blockedStatement, cost, oldHash, password } from './support.ts';

const db = await testPool('core');
await db.query("INSERT INTO roles (name) VALUES ('driver'), ('admin')");
const refused = { ok: false, reason: 'credentials' };
const hashOf = async (id: string) =>
  (await db.query<{ password_hash: string }>('SELECT password_hash FROM users WHERE id = $1', [id])).rows[0]
    ?.password_hash ?? '';

test('gives the user with roles, never with the hash, whatever the case of the e-mail', async () => {
  const { id, email } = await addUser(db);
  await assignRole(db, id, 'driver');
  await assignRole(db, id, 'admin');
  const login = await authenticate(db, { email: email.toUpperCase(), password }, { cost });
  expect(login).toEqual({
    ok: true,
    user: {
      id,
      email,
      name: 'Test',
      emailVerified: false,
      avatarUrl: null,
      lastLoginAt: expect.any(Date),
      createdAt: expect.any(Date),
      roles: ['admin', 'driver'],
    },
  });
});

test('unknown, wrong, inactive, without a bcrypt hash: the same answer, and last_login_at stays', async () => {
  const active = await addUser(db);
  const inactive = await addUser(db, { active: false });
  const foreign = await addUser(db, { hash: '!' });
  const attempts = [
    { email: 'nobody@example.com', password },
    { email: active.email, password: 'wrong' },
    { email: inactive.email, password },
    { email: foreign.email, password: '!' },
    { email: foreign.email, password },
  ];
  for (const attempt of attempts) expect(await authenticate(db, attempt, { cost })).toEqual(refused);
  const { rows } = await db.query('SELECT 1 FROM users WHERE last_login_at IS NOT NULL AND id = ANY($1)', [
    [active.id, inactive.id, foreign.id],
  ]);
  expect(rows).toEqual([]);
});

test('last_login_at is the time of the login, by the clock of the database', async () => {
  const { id, email } = await addUser(db);
  await authenticate(db, { email, password }, { cost });
  const { rows } = await db.query(
    "SELECT last_login_at BETWEEN now() - interval '30 s' AND now() AS recent FROM users WHERE id = $1",
    [id],
  );
  expect(rows).toEqual([{ recent: true }]);
});

test('an old hash is replaced by one of the configured cost, and only by a right password', async () => {
  const { id, email } = await addUser(db, { hash: oldHash });
  expect(await authenticate(db, { email, password: 'wrong' }, { cost })).toEqual(refused);
  expect(await hashOf(id)).toBe(oldHash);
  expect(await authenticate(db, { email, password }, { cost })).toMatchObject({ ok: true });
  const renewed = await hashOf(id);
  expect(renewed).toMatch(/^\$2b\$10\$/);
  expect(await verifyPassword(password, renewed)).toBe(true);
  await authenticate(db, { email, password }, { cost });
  expect(await hashOf(id)).toBe(renewed);
});

test('a costlier hash stays, and an inactive user keeps an old one', async () => {
  const costly = await addUser(db, { hash: hashSync(password, 11) });
  const before = await hashOf(costly.id);
  expect(await authenticate(db, { email: costly.email, password }, { cost })).toMatchObject({ ok: true });
  expect(await hashOf(costly.id)).toBe(before);
  const inactive = await addUser(db, { hash: oldHash, active: false });
  await authenticate(db, { email: inactive.email, password }, { cost });
  expect(await hashOf(inactive.id)).toBe(oldHash);
});

test('several logins at once with an old hash all get in', async () => {
  const { email } = await addUser(db, { hash: oldHash });
  const logins = await Promise.all(
    Array.from({ length: 3 }, () => authenticate(db, { email, password }, { cost })),
  );
  expect(logins.map(({ ok }) => ok)).toEqual([true, true, true]);
});

test('a password that was replaced while bcrypt was at work lets nobody in', async () => {
  const { id, email } = await addUser(db);
  const login = withTransaction(db, async (transaction) => {
    await setPassword(transaction, id, 'another', { cost });
    // Waits for this transaction with its last step, having compared with the old hash.
    const waiting = authenticate(db, { email, password }, { cost });
    await blockedStatement(db, 'UPDATE users SET last_login_at');
    return { waiting };
  });
  expect(await (await login).waiting).toEqual(refused);
});

test('inside of a transaction the login and the count of a failure are part of it', async () => {
  const { id, email } = await addUser(db);
  await expect(
    withTransaction(db, async (transaction) => {
      expect(await authenticate(transaction, { email, password }, { cost })).toMatchObject({ ok: true });
      throw new Error('rolled back');
    }),
  ).rejects.toThrow('rolled back');
  const { rows } = await db.query('SELECT last_login_at FROM users WHERE id = $1', [id]);
  expect(rows).toEqual([{ last_login_at: null }]);
});
