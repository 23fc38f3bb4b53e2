// user_id across databases: the application level keeps it true, because no foreign key can.
import { UserReferenceError, ValidationError } from './errors.ts';
import type { Database } from './pool.ts';
import { isUuid } from './tracking/columns.ts';

/**
 * Call it before a row with this `user_id` is written to an application's database.
 * @param coreDb atriz_core, or a transaction of it.
 * @returns the user's id, normalised.
 * @throws UserReferenceError for somebody unknown or not active; ValidationError for what is no uuid.
 */
export async function requireUser(coreDb: Database, userId: string): Promise<string> {
  if (!isUuid(userId)) {
    throw new ValidationError(`User id "${userId}" is not a uuid.`);
  }
  const { rows } = await coreDb.query<{ id: string; is_active: boolean }>(
    'SELECT id, is_active FROM users WHERE id = $1',
    [userId],
  );
  const [user] = rows;
  if (!user) throw new UserReferenceError(userId, 'unknown');
  if (!user.is_active) throw new UserReferenceError(userId, 'inactive');
  return user.id;
}
