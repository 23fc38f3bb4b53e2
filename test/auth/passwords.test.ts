// Passwords: bcrypt as it is meant, and nothing that it would silently weaken.
import { hashSync } from 'bcryptjs';
import { expect, test } from 'vitest';
import { hashPassword, verifyPassword } from '../../src/auth/index.ts';
import { ValidationError } from '../../src/index.ts';

test('a hash verifies its password and no other', async () => {
  const hash = await hashPassword('correct horse ñ', 10);
  expect(hash).toMatch(/^\$2[aby]\$10\$/);
  expect(await verifyPassword('correct horse ñ', hash)).toBe(true);
  expect(await verifyPassword('correct horse n', hash)).toBe(false);
});

test('the default cost is 12', async () => {
  expect(await hashPassword('x')).toMatch(/^\$2[aby]\$12\$/);
});

test('what bcrypt would cut off is refused, in bytes and not in characters', async () => {
  await expect(hashPassword('x'.repeat(73), 10)).rejects.toThrow(/73 bytes/);
  await expect(hashPassword('ñ'.repeat(37), 10)).rejects.toThrow(ValidationError);
  const hash = await hashPassword('x'.repeat(72), 10);
  expect(await verifyPassword('x'.repeat(73), hash)).toBe(false);
  await expect(hashPassword('', 10)).rejects.toThrow(ValidationError);
  await expect(hashPassword('x', 9)).rejects.toThrow(/cost is 9/);
});

test('NUL and half of a surrogate pair are refused: other passwords would fit their hash', async () => {
  // bcryptjs repeats the password with a NUL between, so that these two are one to it.
  const hash = hashSync('x', 4);
  expect(hashSync('x\0x', hash)).toBe(hash);
  for (const password of ['x\0x', '\0', 'x\ud800', '\udc00x']) {
    await expect(hashPassword(password, 10)).rejects.toThrow(ValidationError);
    expect(await verifyPassword(password, hash)).toBe(false);
    expect(await verifyPassword(password, hashSync(password, 4))).toBe(false);
  }
  expect(await verifyPassword('🔑', await hashPassword('🔑', 10))).toBe(true);
});

test('hashes of other costs and prefixes verify, and what is not a hash fits no password', async () => {
  const hash = hashSync('x', 4);
  for (const prefix of ['$2a$', '$2b$', '$2y$']) {
    expect(await verifyPassword('x', prefix + hash.slice(4))).toBe(true);
  }
  for (const other of [
    '',
    'x',
    '!',
    '$2a$10$...',
    hash.slice(0, -1),
    `${hash}x`,
    hash.replace('$04$', '$99$'),
  ]) {
    expect(await verifyPassword('x', other)).toBe(false);
  }
});

test('what is not a string is refused', async () => {
  for (const value of [undefined, null, 1, {}, ['x']] as never[]) {
    await expect(hashPassword(value, 10)).rejects.toThrow(ValidationError);
    await expect(verifyPassword(value, hashSync('x', 4))).rejects.toThrow(ValidationError);
    await expect(verifyPassword('x', value)).rejects.toThrow(ValidationError);
  }
});

test('the event loop turns while passwords are hashed, however many', async () => {
  let turns = 0;
  let done = false;
  const count = () => {
    turns += 1;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  await Promise.all(Array.from({ length: 2 }, () => hashPassword('x', 10)));
  done = true;
  // In this thread each hash would take a whole turn, or a tenth of a second of it: a handful in all.
  expect(turns).toBeGreaterThan(100);
});
