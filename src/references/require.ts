// Checks with atriz_core which user ids an application may write to a user_id column.
import { UserReferenceError, UserReferencesError, ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { isUuid, requireUuid } from '../sql/uuid.ts';

/** The state of a user id in atriz_core. */
export type Standing = 'active' | 'inactive' | 'unknown';

/**
 * Checks that a user exists and is active. Call it before writing a row with this user id to an application's database.
 * @param coreDb a pool or a transaction of atriz_core.
 * @returns the user id in lower case.
 * @throws UserReferenceError for an unknown or inactive user; ValidationError for a value that is not a uuid.
 */
export async function requireUser(coreDb: AnyDatabase, userId: string): Promise<string> {
  const id = parseUserId(userId);
  const standing = (await readStandings(coreDb, [id])).get(id) ?? 'unknown';
  if (standing !== 'active') throw new UserReferenceError(id, standing);
  return id;
}

/**
 * Checks a batch of ids as `requireUser` does, in one round trip. An empty batch needs none. The batch may contain
 * duplicates.
 * @returns the ids in lower case, in the given order.
 * @throws UserReferencesError that lists each refused id once, with its reason, including values that are not
 * uuids; ValidationError if `userIds` is not an array.
 */
export async function requireUsers(coreDb: AnyDatabase, userIds: readonly string[]): Promise<string[]> {
  return acceptActive(userIds, (ids) => readStandings(coreDb, ids));
}

/**
 * Checks ids as `requireUsers` does, with the standings that `ask` returns. An id that `ask` does not return
 * is unknown.
 */
export async function acceptActive(
  userIds: readonly string[],
  ask: (ids: readonly string[]) => Promise<ReadonlyMap<string, Standing>>,
): Promise<string[]> {
  if (!Array.isArray(userIds)) throw new ValidationError('userIds is not a list: pass an array of user ids.');
  const ids = userIds.map((userId) => (isUuid(userId) ? userId.toLowerCase() : undefined));
  const standings = await ask([...new Set(ids.filter((id) => id !== undefined))]);
  const failures = new Map<string, UserReferencesError['failures'][number]['reason']>();
  const accepted = ids.map((id, index) => {
    const standing = id === undefined ? 'no uuid' : (standings.get(id) ?? 'unknown');
    const named = id ?? String(userIds[index]);
    if (standing !== 'active') failures.set(named, standing);
    return named;
  });
  if (failures.size === 0) return accepted;
  throw new UserReferencesError([...failures].map(([userId, reason]) => ({ userId, reason })));
}

/** @throws ValidationError for a value that is not a uuid. */
export const parseUserId = (userId: string): string => requireUuid(userId, 'User id');

/** Reads the standing of each id in one round trip. The result does not contain unknown ids. */
export async function readStandings(
  coreDb: AnyDatabase,
  ids: readonly string[],
): Promise<ReadonlyMap<string, Standing>> {
  if (ids.length === 0) return new Map();
  const { rows } = await databaseOf(coreDb).primary.query<{ id: string; is_active: boolean }>(
    'SELECT id, is_active FROM users WHERE id = ANY($1::uuid[])',
    [ids],
  );
  return new Map(rows.map(({ id, is_active }) => [id, is_active ? 'active' : 'inactive']));
}
