// Limits of failed logins: per account, per address, under concurrency, and never for good.
import { expect, test } from 'vitest';
import { parseAddress } from '../../src/auth/arguments.ts';
import { authenticate, changePassword, resetPassword } from '../../src/auth/index.ts';
import { countAttempt, forgiveAttempt, parseLimits } from '../../src/auth/login-attempts.ts';
import { eraseRows } from '../../src/erasure/erase.ts';
import { nameOf } from '../../src/references/schema.ts';
import { testPool } from '../support/database.ts';
import { addToken, addUser, cost, password } from './support.ts';

const db = await testPool('core');
const quarter = 15 * 60_000;
const limits = {
  account: { failures: 3, windowMs: quarter },
  address: { failures: 5, windowMs: quarter },
};
/** A whole login. */
const logIn = (email: string, secret = 'wrong') =>
  authenticate(db, { email, password: secret }, { cost, limits });
/** What a login does with the counters, without the bcrypt between. */
async function outcome(email: string, ipAddress?: string, secret = 'wrong') {
  const attempter = { email, address: parseAddress(ipAddress), userAgent: null };
  const counted = await countAttempt(db, attempter, parseLimits(limits));
  if ('retryAfterMs' in counted) return 'limited';
  if (secret !== password) return 'credentials';
  await forgiveAttempt(db, counted);
  return 'in';
}
/** As if this much time had passed. */
const wait = (milliseconds: number) =>
  db.query(
    `UPDATE login_attempts SET forgiven_at = forgiven_at - $1::float8 * interval '1 ms',
       expires_at = expires_at - $1::float8 * interval '1 ms'`,
    [milliseconds],
  );

test('an account takes so many failures, then one for each part of the window, right password or not', async () => {
  const { email } = await addUser(db);
  for (let failure = 0; failure < 3; failure += 1) {
    expect(await logIn(email)).toEqual({ ok: false, reason: 'credentials' });
  }
  const limited = await logIn(email.toUpperCase(), password);
  expect(limited).toMatchObject({ ok: false, reason: 'limited' });
  const { retryAfterMs } = limited as { retryAfterMs: number };
  expect(retryAfterMs).toBeGreaterThan(0);
  expect(retryAfterMs).toBeLessThanOrEqual(quarter / 3);
  await wait(retryAfterMs);
  expect(await outcome(email)).toBe('credentials');
  expect(await outcome(email)).toBe('limited');
});

test('an e-mail that nobody has is limited in the same way, and is nowhere in the table', async () => {
  const email = 'nobody.at.all@example.com';
  for (let failure = 0; failure < 3; failure += 1) {
    expect(await logIn(email)).toEqual({ ok: false, reason: 'credentials' });
  }
  expect(await logIn(email)).toMatchObject({ ok: false, reason: 'limited' });
  const { rows } = await db.query<{ text: string }>(
    'SELECT string_agg(login_attempts::text, $1) AS text FROM login_attempts',
    ['\n'],
  );
  expect(rows[0]?.text).not.toContain('nobody');
});

test('a refused attempt moves nothing: whoever keeps trying does not keep others out', async () => {
  const { email } = await addUser(db);
  for (let failure = 0; failure < 3; failure += 1) await outcome(email);
  const first = (await logIn(email)) as { retryAfterMs: number };
  for (let more = 0; more < 5; more += 1) await logIn(email);
  const last = (await logIn(email)) as { retryAfterMs: number };
  expect(last.retryAfterMs).toBeLessThanOrEqual(first.retryAfterMs);
});

test('an address is limited over all accounts, and then adds nothing to theirs', async () => {
  const { email } = await addUser(db);
  for (let person = 0; person < 5; person += 1) await outcome(`someone${person}@example.com`, '192.0.2.1');
  expect(await outcome(email, '192.0.2.1', password)).toBe('limited');
  expect(await outcome(email, '192.0.2.1')).toBe('limited');
  expect([await outcome(email), await outcome(email), await outcome(email)]).not.toContain('limited');
});

test('an IPv6 client is its /64 network, and an IPv4 client is itself however it is written', async () => {
  for (let host = 1; host <= 5; host += 1) await outcome(`v6.${host}@example.com`, `2001:db8:0:1::${host}`);
  expect(await outcome('v6@example.com', '2001:DB8:0:1:ffff::9%eth0')).toBe('limited');
  expect(await outcome('v6@example.com', '2001:db8:0:2::1')).toBe('credentials');
  for (let count = 1; count <= 5; count += 1) await outcome(`v4.${count}@example.com`, '::ffff:192.0.2.2');
  expect(await outcome('v4@example.com', '192.0.2.2')).toBe('limited');
  expect(await outcome('v4@example.com', '::ffff:c000:202')).toBe('limited');
  expect(await outcome('v4@example.com', '::ffff:192.0.2.3')).toBe('credentials');
});

test('strangers cannot lock an owner out where the owner has logged in before', async () => {
  const { email } = await addUser(db);
  const home = '198.51.100.1';
  expect(await outcome(email, home, password)).toBe('in');
  for (let failure = 0; failure < 4; failure += 1) await outcome(email, `203.0.113.${failure}`);
  expect(await outcome(email, '203.0.113.9', password)).toBe('limited');
  expect(await outcome(email, home, password)).toBe('in');
  // The known address has a limit of its own, and a known one is known to this account only.
  expect([await outcome(email, home), await outcome(email, home), await outcome(email, home)]).not.toContain(
    'limited',
  );
  expect(await outcome(email, home, password)).toBe('limited');
  const other = await addUser(db);
  for (let failure = 0; failure < 3; failure += 1) await outcome(other.email);
  expect(await outcome(other.email, home, password)).toBe('limited');
});

test('an address is forgotten when it was not used for so long', async () => {
  const { email } = await addUser(db);
  await outcome(email, '198.51.100.2', password);
  await wait(91 * 24 * 60 * 60_000);
  for (let failure = 0; failure < 3; failure += 1) await outcome(email);
  expect(await outcome(email, '198.51.100.2', password)).toBe('limited');
});

test('a success takes back its own count and no other: it opens no door to further guesses', async () => {
  const { email } = await addUser(db);
  await outcome(email);
  await outcome(email);
  expect([await outcome(email, undefined, password), await outcome(email, undefined, password)]).toEqual([
    'in',
    'in',
  ]);
  expect(await outcome(email)).toBe('credentials');
  expect(await outcome(email, undefined, password)).toBe('limited');
});

test('50 guesses at once: as many as the limit says are looked at', async () => {
  const { email } = await addUser(db);
  const guesses = await Promise.all(Array.from({ length: 50 }, () => logIn(email)));
  expect(guesses.filter((guess) => !guess.ok && guess.reason === 'credentials')).toHaveLength(3);
  const spread = await Promise.all(
    Array.from({ length: 50 }, (_, index) => outcome(`spread${index}@example.com`, '192.0.2.77')),
  );
  expect(spread.filter((guess) => guess === 'credentials')).toHaveLength(5);
});

test('guessing the current password through changePassword counts as well', async () => {
  const { id, email } = await addUser(db);
  const guess = () =>
    changePassword(db, { userId: id, currentPassword: 'wrong', newPassword: 'never' }, { cost, limits });
  for (let failure = 0; failure < 3; failure += 1) {
    expect(await guess()).toEqual({ ok: false, reason: 'credentials' });
  }
  expect(await guess()).toMatchObject({ reason: 'limited' });
  expect(await outcome(email, undefined, password)).toBe('limited');
});

test('a limit that does not divide the window still allows all of its failures', async () => {
  const odd = parseLimits({ account: { failures: 7, windowMs: 1_000_000 } });
  const attempter = { email: 'seven@example.com', address: null, userAgent: null };
  const counted = [];
  for (let count = 0; count < 8; count += 1) counted.push(await countAttempt(db, attempter, odd));
  expect(counted.filter((one) => !('retryAfterMs' in one))).toHaveLength(7);
});

test('a password that was reset by mail frees its owner, from strangers’ guesses and their own', async () => {
  const user = await addUser(db);
  const [home, stranger] = ['198.51.100.7', '203.0.113.7'];
  expect(await outcome(user.email, home, password)).toBe('in');
  for (let failure = 0; failure < 4; failure += 1) await outcome(user.email, stranger);
  for (let failure = 0; failure < 3; failure += 1) await outcome(user.email, home);
  expect(await outcome(user.email)).toBe('limited');
  expect(await outcome(user.email, home)).toBe('limited');
  await resetPassword(db, (await addToken(db, user)).token, password, { cost });
  expect(await outcome(user.email, undefined, password)).toBe('in');
  expect(await outcome(user.email, home, password)).toBe('in');
  // Still known: strangers cannot lock them out at home again.
  for (let failure = 0; failure < 4; failure += 1) await outcome(user.email);
  expect(await outcome(user.email, home, password)).toBe('in');
});

test('an erasure finds what a login left: the counter and the known address, which keeps no user agent', async () => {
  const user = await addUser(db);
  await authenticate(db, { email: user.email, password: 'wrong', userAgent: 'her browser' }, { cost });
  const credentials = { email: user.email, password, ipAddress: '198.51.100.8', userAgent: 'her phone' };
  for (let login = 0; login < 2; login += 1) {
    expect(await authenticate(db, credentials, { cost })).toMatchObject({ ok: true });
  }
  const { rows } = await db.query<{ user_agent: string | null }>(
    "SELECT user_agent FROM login_attempts WHERE subject_type = 'known_address' AND account = encode(sha256($1), 'hex')",
    [Buffer.from(user.email)],
  );
  expect(rows).toEqual([{ user_agent: null }]);
  const erased: string[] = [];
  await eraseRows(db, 'core', user.id, {
    lockTimeoutMs: 10_000,
    onRows: ({ relation, column }, count) => {
      if (nameOf(relation) === 'login_attempts') erased.push(`${column.name} ${count}`);
    },
  });
  expect(erased).toEqual(['subject 1', 'account 1']);
});
