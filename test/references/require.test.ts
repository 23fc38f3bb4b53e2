// requireUser, requireUsers, createUserCheck: who may stand in a user_id column.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { users } from '../../schema/core.ts';
import {
  ConnectionError,
  createDatabasePool,
  type Database,
  UserReferenceError,
  UserReferencesError,
  ValidationError,
  withTransaction,
} from '../../src/index.ts';
import { createUserCheck, requireUser, requireUsers } from '../../src/references/index.ts';
import { testPool } from '../support/database.ts';

const db = await testPool('core');

async function newUser(isActive = true): Promise<string> {
  const email = `${randomUUID()}@example.com`;
  const [user] = await db.orm
    .insert(users)
    .values({ email, passwordHash: 'x', name: 'N', isActive })
    .returning();
  return user?.id ?? '';
}
const setActive = (id: string, isActive: boolean) =>
  db.query('UPDATE users SET is_active = $2 WHERE id = $1', [id, isActive]);
const injection = "' OR true --";

describe('requireUser', () => {
  test('returns an active user, with a pool or with a transaction', async () => {
    const id = await newUser();
    expect(await requireUser(db, id.toUpperCase())).toBe(id);
    expect(await withTransaction(db, (transaction) => requireUser(transaction, id))).toBe(id);
  });

  test('refuses the unknown, the inactive and what is not a uuid', async () => {
    await expect(requireUser(db, await newUser(false))).rejects.toMatchObject({ reason: 'inactive' });
    await expect(requireUser(db, randomUUID())).rejects.toThrow(UserReferenceError);
    for (const wrong of [injection, '', 'x'.repeat(100_000), '\0', `${randomUUID()}\n`]) {
      await expect(requireUser(db, wrong)).rejects.toThrow(ValidationError);
    }
  });
});

describe('requireUsers', () => {
  test('returns the ids in the order given, repeated and normalised as they are', async () => {
    const [one, other] = [await newUser(), await newUser()];
    expect(await requireUsers(db, [other, one.toUpperCase(), other])).toEqual([other, one, other]);
    expect(await requireUsers(db, [])).toEqual([]);
  });

  test('refuses what is not an array, with a typed error', async () => {
    for (const wrong of [null, undefined, 'x', 7, {}]) {
      await expect(requireUsers(db, wrong as never)).rejects.toThrow(ValidationError);
    }
    await expect(requireUser(db, [randomUUID()] as never)).rejects.toThrow(ValidationError);
    await expect(requireUsers(db, [null, 7, [randomUUID()]] as never)).rejects.toThrow(UserReferencesError);
  });

  test('names everybody who fails, once, with the reason of each', async () => {
    const [active, inactive, unknown] = [await newUser(), await newUser(false), randomUUID()];
    const failure = await requireUsers(db, [
      active,
      unknown,
      inactive,
      injection,
      unknown.toUpperCase(),
    ]).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UserReferencesError);
    expect((failure as UserReferencesError).failures).toEqual([
      { userId: unknown, reason: 'unknown' },
      { userId: inactive, reason: 'inactive' },
      { userId: injection, reason: 'no uuid' },
    ]);
    const many = Array.from({ length: 5_000 }, () => randomUUID());
    await expect(requireUsers(db, many)).rejects.toThrow(/, and 4990 more\.$/);
  });
});

/** A check on the real database, and how many queries it has sent. */
function counted(options: Parameters<typeof createUserCheck>[1] = {}) {
  const sent: unknown[] = [];
  const watched: Database = new Proxy(db, {
    get: (target, property) => {
      if (property === 'primary') return watched;
      if (property !== 'query') return Reflect.get(target, property);
      return (text: string, parameters: readonly unknown[]) => {
        sent.push(parameters);
        return target.query(text, parameters);
      };
    },
  });
  return { check: createUserCheck(watched, options), sent };
}

describe('createUserCheck', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('asks once for what many callers want at the same moment', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => newUser()));
    const { check, sent } = counted();
    const [first = ''] = ids;
    const answers = await Promise.all([
      ...ids.map((id) => check.requireUser(id)),
      ...ids.map(() => check.requireUser(first.toUpperCase())),
      check.requireUsers(ids),
    ]);
    expect(answers).toEqual([...ids, ...ids.map(() => first), ids]);
    expect(sent).toEqual([[ids]]);
  });

  test('joins a query that is under way already', async () => {
    const id = await newUser();
    const { check, sent } = counted();
    const first = check.requireUser(id);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toHaveLength(1);
    expect(await Promise.all([first, check.requireUser(id)])).toEqual([id, id]);
    expect(sent).toHaveLength(1);
  });

  test('trusts an active user for ttlMs, and notices the lock-out after it', async () => {
    const id = await newUser();
    const { check, sent } = counted({ ttlMs: 1_000 });
    await check.requireUser(id);
    await setActive(id, false);
    vi.advanceTimersByTime(999);
    expect(await check.requireUser(id)).toBe(id);
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(1);
    await expect(check.requireUser(id)).rejects.toMatchObject({ reason: 'inactive' });
  });

  test('forgets a refusal sooner than a yes', async () => {
    const [id, unknown] = [await newUser(false), randomUUID()];
    const { check, sent } = counted({ ttlMs: 1_000, refusedTtlMs: 100 });
    await expect(check.requireUsers([id, unknown])).rejects.toThrow(UserReferencesError);
    await setActive(id, true);
    vi.advanceTimersByTime(99);
    await expect(check.requireUser(id)).rejects.toThrow(UserReferenceError);
    await expect(check.requireUser(unknown)).rejects.toMatchObject({ reason: 'unknown' });
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(await check.requireUser(id)).toBe(id);
  });

  test('remembers at most max answers, and forgets one when told', async () => {
    const [one, two, three] = [await newUser(), await newUser(), await newUser()];
    const { check, sent } = counted({ max: 2 });
    for (const id of [one, two, three, three, two]) await check.requireUser(id);
    expect(sent).toHaveLength(3);
    await check.requireUser(one);
    expect(sent).toHaveLength(4);
    check.forget(one.toUpperCase());
    await check.requireUser(one);
    expect(sent).toHaveLength(5);
  });

  test('answers larger batches than it remembers', async () => {
    const ids = await Promise.all(Array.from({ length: 5 }, () => newUser()));
    const { check } = counted({ max: 2 });
    expect(await check.requireUsers(ids)).toEqual(ids);
  });

  test('a failed query rejects its callers and is not remembered', async () => {
    const id = await newUser();
    await using unreachable = createDatabasePool({
      connectionString: 'postgresql://u@127.0.0.1:1/atriz_core',
    });
    const check = createUserCheck(unreachable);
    const attempts = await Promise.allSettled([check.requireUser(id), check.requireUsers([id])]);
    for (const attempt of attempts) {
      expect(attempt).toMatchObject({ status: 'rejected', reason: expect.any(ConnectionError) });
    }
    await expect(check.requireUser(id)).rejects.toThrow(ConnectionError);
  });

  test('refuses what is not a uuid without a query, and options out of range', async () => {
    const { check, sent } = counted();
    await expect(check.requireUser(injection)).rejects.toThrow(ValidationError);
    await expect(check.requireUsers([injection])).rejects.toThrow(UserReferencesError);
    expect(sent).toEqual([]);
    for (const options of [{ ttlMs: -1 }, { refusedTtlMs: Number.NaN }, { max: 0 }]) {
      expect(() => createUserCheck(db, options)).toThrow(ValidationError);
    }
  });
});
