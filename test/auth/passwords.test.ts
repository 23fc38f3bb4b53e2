// Passwords: bcrypt as it is meant, and nothing that it would silently weaken.
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
