// requireUser: who may stand in a user_id column.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { users } from '../schema/core.ts';
import { UserReferenceError, ValidationError, withTransaction } from '../src/index.ts';
import { requireUser } from '../src/references.ts';
import { testPool } from './support/database.ts';

const db = await testPool('core');

test('returns an active user, with a pool or with a transaction', async () => {
  const [user] = await db.orm
    .insert(users)
    .values({ email: 'a@example.com', passwordHash: 'x', name: 'A' })
    .returning();
  const id = user?.id ?? '';
  expect(await requireUser(db, id.toUpperCase())).toBe(id);
  expect(await withTransaction(db, (transaction) => requireUser(transaction, id))).toBe(id);
});

test('refuses the unknown, the inactive and what is no uuid', async () => {
  const [user] = await db.orm
    .insert(users)
    .values({ email: 'off@example.com', passwordHash: 'x', name: 'Off', isActive: false })
    .returning();
  await expect(requireUser(db, user?.id ?? '')).rejects.toMatchObject({ reason: 'inactive' });
  await expect(requireUser(db, randomUUID())).rejects.toThrow(UserReferenceError);
  await expect(requireUser(db, "' OR true --")).rejects.toThrow(ValidationError);
});
