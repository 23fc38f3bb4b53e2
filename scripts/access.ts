// The access matrix with the settings of the environment: for the command access, and for create and migrate.
import { type Applied, type ApplyOptions, applyAccess } from '../src/access/apply.ts';
import { accessMatrix, type DatabaseAccess } from '../src/access/matrix.ts';
import { rolePassword, rolePrefix } from '../src/config.ts';
import { type DatabaseKey, definitionOf } from '../src/databases.ts';
import type { Database, Pool } from '../src/pool.ts';
import { plural } from './output.ts';

export const matrixOf = (key: DatabaseKey): DatabaseAccess => accessMatrix(key, rolePrefix());

/** Applies the matrix, with the passwords that the environment holds. */
export const applyMatrix = (pool: Pool, key: DatabaseKey, options: ApplyOptions = {}): Promise<Applied> =>
  applyAccess(pool, matrixOf(key), { passwordOf: (role) => rolePassword(role), ...options });

/** Whether the database is the matrix's to arrange: once it was applied, its owner role owns the database. */
export async function isArranged(db: Database, key: DatabaseKey): Promise<boolean> {
  const { rows } = await db.query<{ owner: string }>(
    'SELECT pg_get_userbyid(datdba)::text AS owner FROM pg_database WHERE datname = current_database()',
  );
  return rows[0]?.owner === matrixOf(key).owner;
}

/** A sentence about what was left undone, undefined when nothing was. */
export function describeRefused(key: DatabaseKey, { refused }: Applied): string | undefined {
  const [first] = refused;
  if (!first) return undefined;
  return (
    `access of ${definitionOf(key).database} is not as the matrix says: this role may not make ` +
    `${plural(refused.length, 'change')}, such as: ${first.mend}. ` +
    `Run "npm run db:access -- apply ${key}" as a superuser, or as a role with CREATEROLE that owns the database.`
  );
}
