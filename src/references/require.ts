// Asks atriz_core which ids are allowed in a user_id column.
import { UserReferenceError, UserReferencesError, ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { isUuid, requireUuid } from '../sql/uuid.ts';

/** What atriz_core says of a user id. */
export type Standing = 'active' | 'inactive' | 'unknown';

/**
 * Call it before a row with this `user_id` is written to an application's database.
 * @param coreDb atriz_core, or a transaction of it.
 * @returns the user's id, normalised.
 * @throws UserReferenceError for somebody unknown or not active; ValidationError for a value that is not a uuid.
 */
export async function requireUser(coreDb: AnyDatabase, userId: string): Promise<string> {
  const id = parseUserId(userId);
  const standing = (await readStandings(coreDb, [id])).get(id) ?? 'unknown';
  if (standing !== 'active') throw new UserReferenceError(id, standing);
  return id;
}

/**
 * `requireUser` for a batch, in one round trip; none for an empty batch. An id may occur many times.
 * @returns the ids, normalised, in the order given.
 * @throws UserReferencesError naming every id that fails, once, with its reason; ValidationError for no array.
 */
export async function requireUsers(coreDb: AnyDatabase, userIds: readonly string[]): Promise<string[]> {
  return acceptActive(userIds, (ids) => readStandings(coreDb, ids));
}

/** The rules of `requireUsers`, wherever the answers come from. Absent from the answer means unknown. */
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

/** One round trip. Nobody is in the answer who is not in atriz_core. */
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
