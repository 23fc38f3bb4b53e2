// Bad input: whatever is in an argument, the answer is a typed one and no row changes.
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  assignRole,
  authenticate,
  changePassword,
  consumeToken,
  createUser,
  getUserRoles,
  hasRole,
  issueToken,
  removeRole,
  resetPassword,
  revokeToken,
  revokeUserTokens,
  rotateRefreshToken,
  setPassword,
  verifyEmail,
  verifyToken,
} from '../../src/auth/index.ts';
import { AtrizDatabaseError, ValidationError } from '../../src/index.ts';
import { testPool } from '../support/database.ts';
import { addToken, addUser, cost, failure, fingerprint, password } from './support.ts';

const db = await testPool('core');
await db.query("INSERT INTO roles (name) VALUES ('driver')");
const user = await addUser(db);
const { id } = user;
await addToken(db, user, { type: 'refresh' });
const limits = { account: { failures: 100_000, windowMs: 100_000 } };

/** Each function with a hole for one string. What it returns for a string that fits nothing must be no success. */
const holes: Record<string, (text: string) => Promise<unknown>> = {
  'verifyToken token': (text) => verifyToken(db, text, 'access'),
  'verifyToken type': (text) => verifyToken(db, 'x'.repeat(43), text as never),
  'consumeToken token': (text) => consumeToken(db, text, 'password_reset'),
  'consumeToken type': (text) => consumeToken(db, 'x'.repeat(43), text as never),
  'rotateRefreshToken token': (text) => rotateRefreshToken(db, text),
  'issueToken userId': (text) => issueToken(db, { userId: text, type: 'access' }),
  'issueToken type': (text) => issueToken(db, { userId: id, type: text as never }),
  'issueToken familyId': (text) => issueToken(db, { userId: id, type: 'access', familyId: text }),
  'issueToken ipAddress': (text) => issueToken(db, { userId: id, type: 'access', ipAddress: text }),
  'revokeUserTokens userId': (text) => revokeUserTokens(db, text),
  'revokeUserTokens type': (text) => revokeUserTokens(db, id, { type: text as never }),
  'assignRole userId': (text) => assignRole(db, text, 'driver'),
  'assignRole role': (text) => assignRole(db, id, text),
  'removeRole role': (text) => removeRole(db, id, text),
  'hasRole role': (text) => hasRole(db, id, text),
  'getUserRoles userId': (text) => getUserRoles(db, text),
  'setPassword userId': (text) => setPassword(db, text, password, { cost }),
  'resetPassword token': (text) => resetPassword(db, text, password, { cost }),
  'verifyEmail token': (text) => verifyEmail(db, text),
  'changePassword userId': (text) =>
    changePassword(db, { userId: text, currentPassword: password, newPassword: 'x' }, { cost }),
  'createUser email': (text) => createUser(db, { email: `${text} `, password, name: 'N' }, { cost }),
  'createUser roles': (text) =>
    createUser(db, { email: 'n@example.com', password, name: 'N', roles: [text] }, { cost }),
  'authenticate ipAddress': (text) =>
    authenticate(db, { email: user.email, password, ipAddress: text }, { cost, limits }),
};

const nasty = [
  '',
  ' ',
  '\0',
  'a\0b',
  '\ud800',
  '\udfff tail',
  "' OR true --",
  "'; DROP TABLE users; --",
  '$1',
  '%s%n',
  '\\',
  '{"a":1}',
  'é'.repeat(10),
  'x'.repeat(1_000_000),
];
// No grapheme is left out: lone surrogates and NUL come up as well.
const anything = fc.oneof(
  fc.constantFrom(...nasty),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 30 })
    .map((units) => String.fromCharCode(...units)),
);

test.each(Object.entries(holes))('%s takes any text without harm', async (name, call) => {
  // Registering costs a bcrypt where the e-mail is not what is wrong.
  const [numRuns, examples] = name === 'createUser roles' ? [4, nasty.slice(3, 7)] : [40, nasty];
  const before = await fingerprint(db);
  await fc.assert(
    fc.asyncProperty(anything, async (text) => {
      expect(await failure(call(text))).toBeInstanceOf(AtrizDatabaseError);
    }),
    { numRuns, examples: examples.map((text) => [text]) },
  );
  expect(await fingerprint(db)).toBe(before);
});

test('any e-mail and any password that are not those of a user log nobody in', async () => {
  await fc.assert(
    fc.asyncProperty(anything, anything, async (email, secret) => {
      expect(await authenticate(db, { email, password: secret }, { cost, limits })).toEqual({
        ok: false,
        reason: 'credentials',
      });
    }),
    { numRuns: 100, examples: nasty.map((text) => [text, text]) },
  );
  for (const secret of ['', '\0', `${password}\0`, `${password}\0${password}`, '\ud800', 'x'.repeat(73)]) {
    expect(await authenticate(db, { email: user.email, password: secret }, { cost, limits })).toMatchObject({
      ok: false,
    });
  }
});

test('revokeToken finds nothing in any text', async () => {
  const before = await fingerprint(db);
  for (const text of nasty) expect(await revokeToken(db, text)).toBe(0);
  expect(await fingerprint(db)).toBe(before);
});

const wrong = [undefined, null, 0, Number.NaN, true, {}, [], () => '', Symbol('x'), 1n] as never[];

test.each<[string, (value: never) => Promise<unknown>]>([
  ['verifyToken token', (value) => verifyToken(db, value, 'access')],
  ['rotateRefreshToken token', (value) => rotateRefreshToken(db, value)],
  ['consumeToken type', (value) => consumeToken(db, 'x'.repeat(43), value)],
  ['revokeToken token', (value) => revokeToken(db, value)],
  ['issueToken options', (value) => issueToken(db, value)],
  ['issueToken userId', (value) => issueToken(db, { userId: value, type: 'access' })],
  ['issueToken type', (value) => issueToken(db, { userId: id, type: value })],
  ['authenticate credentials', (value) => authenticate(db, value)],
  ['authenticate email', (value) => authenticate(db, { email: value, password })],
  ['authenticate password', (value) => authenticate(db, { email: user.email, password: value })],
  ['changePassword change', (value) => changePassword(db, value)],
  ['createUser account', (value) => createUser(db, value)],
  ['createUser name', (value) => createUser(db, { email: 'n@example.com', password, name: value })],
  ['setPassword password', (value) => setPassword(db, id, value)],
  ['resetPassword password', (value) => resetPassword(db, 'x'.repeat(43), value)],
  ['assignRole role', (value) => assignRole(db, id, value)],
  ['getUserRoles userId', (value) => getUserRoles(db, value)],
])('%s of a wrong type is refused', async (_name, call) => {
  const before = await fingerprint(db);
  for (const value of wrong) expect(await failure(call(value))).toBeInstanceOf(ValidationError);
  expect(await fingerprint(db)).toBe(before);
});

test('numbers out of range, headers that none can be', async () => {
  const before = await fingerprint(db);
  const refused: Promise<unknown>[] = [
    ...[0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 367 * 86_400_000].map((lifetimeMs) =>
      issueToken(db, { userId: id, type: 'access', lifetimeMs }),
    ),
    ...['short', 'x'.repeat(256), 'with a space in it', 'ñ'.repeat(20)].map((jti) =>
      issueToken(db, { userId: id, type: 'access', jti }),
    ),
    issueToken(db, { userId: id, type: 'access', userAgent: 'a\0b' }),
    rotateRefreshToken(db, 'x'.repeat(43), { reuseGraceMs: -1 }),
    authenticate(db, { email: user.email, password }, { cost: 9 }),
    authenticate(db, { email: user.email, password }, { limits: { account: { failures: 0, windowMs: 1 } } }),
    authenticate(db, { email: user.email, password }, { limits: { address: { failures: 9, windowMs: 8 } } }),
    createUser(db, { email: 'n@example.com', password, name: '\t ' }),
    createUser(db, { email: 'n@example.com', password, name: 'N', roles: 'driver' as never }),
    createUser(db, { email: `${'n'.repeat(250)}@example.com`, password, name: 'N' }),
    // The Kelvin sign is a k in lower case, and must not become somebody's.
    createUser(db, { email: '\u212Aate@example.com', password, name: 'N' }),
  ];
  for (const attempt of refused) expect(await failure(attempt)).toBeInstanceOf(ValidationError);
  expect(await fingerprint(db)).toBe(before);
});

test('a user agent of any length is cut and no reason to refuse', async () => {
  const issued = await issueToken(db, { userId: id, type: 'access', userAgent: 'x'.repeat(100_000) });
  const { rows } = await db.query('SELECT length(user_agent) AS length FROM auth_tokens WHERE id = $1', [
    issued.id,
  ]);
  expect(rows).toEqual([{ length: 1_024 }]);
  // The cut falls inside of an emoji, which goes as a whole.
  const userAgent = `${'x'.repeat(1_023)}\u{1f600}`;
  expect(await authenticate(db, { email: user.email, password, userAgent }, { cost, limits })).toMatchObject({
    ok: true,
  });
  // Half of one that stands at the end of a short text is still no header.
  const half = authenticate(db, { email: user.email, password, userAgent: 'x\ud83d' }, { cost, limits });
  expect(await failure(half)).toBeInstanceOf(ValidationError);
});

test('no message repeats a password, a token, or more than a line of what was passed', async () => {
  const secret = randomUUID().repeat(3);
  const messages = await Promise.all(
    [
      setPassword(db, id, secret),
      verifyToken(db, secret, 'access'),
      issueToken(db, { userId: id, type: 'access', jti: `${secret} ` }),
    ].map((attempt) => failure(attempt).then(String)),
  );
  for (const message of messages) expect(message).not.toContain(secret.slice(0, 20));
  expect(String(await failure(getUserRoles(db, 'x'.repeat(1_000_000)))).length).toBeLessThan(200);
});
