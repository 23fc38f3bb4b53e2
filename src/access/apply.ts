// Makes a database what the matrix says, in one transaction. What the connected role may not do is left and named.
import { setTimeout as sleep } from 'node:timers/promises';
import { AtrizDatabaseError, sqlState } from '../errors.ts';
import { quoteIdentifier } from '../identifiers.ts';
import type { Database, Pool } from '../pool.ts';
import { type Transaction, withTransaction } from '../transaction.ts';
import { readAccess } from './catalog.ts';
import { type AccessDifference, compareAccess, stages } from './check.ts';
import { type DatabaseAccess, rolesOf } from './matrix.ts';
import { passwordStatement } from './passwords.ts';
import { verifies } from './verifier.ts';

/** A change was not possible for another reason than a missing right. */
class AccessError extends AtrizDatabaseError {
  override readonly name = 'AccessError';
}

export interface ApplyOptions {
  /** The password that a role should have; undefined leaves its password alone. */
  passwordOf?: (role: string) => string | undefined;
  /** Makes a password for a role that has none and that `passwordOf` knows none for. */
  generatePassword?: (role: string) => string;
}

export interface Applied {
  readonly changes: readonly AccessDifference[];
  /** Changes that need more rights than the connected role has. */
  readonly refused: readonly AccessDifference[];
  /** Roles that got a password. */
  readonly passwords: readonly string[];
}

/**
 * Applies the matrix to one database. A second call changes nothing.
 * @throws AccessError naming the statement that failed: nothing was changed.
 */
export async function applyAccess(
  db: Pool,
  matrix: DatabaseAccess,
  options: ApplyOptions = {},
): Promise<Applied> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await withTransaction(db, (transaction) => applyOnce(transaction, matrix, options));
    } catch (error) {
      if (attempt >= 5 || !isCollision(error)) throw error;
      await sleep(50 + Math.random() * 200);
    }
  }
}

// Roles are the server's: two databases may be worked on at once. XX000 is "tuple concurrently updated",
// 42710 and 23505 a role that the other one was faster to create.
const isCollision = (error: unknown) =>
  ['40001', '40P01', 'XX000', '42710', '23505'].includes(sqlState(error) ?? '');

async function applyOnce(db: Transaction, matrix: DatabaseAccess, options: ApplyOptions): Promise<Applied> {
  const changes: AccessDifference[] = [];
  const refused = new Map<string, AccessDifference>();
  const run = async (stage: AccessDifference['stage']) => {
    const due = compareAccess(matrix, await readAccess(db, matrix)).filter(
      (difference) => difference.stage === stage && !refused.has(difference.mend),
    );
    for (const difference of due) {
      if (await attempt(db, difference.mend)) changes.push(difference);
      else refused.set(difference.mend, difference);
    }
    return due.length;
  };
  for (const stage of stages) {
    // Again: revoking a privilege on a table takes those on its columns along.
    for (let round = 0; round < 3 && (await run(stage)) > 0; round += 1);
    if (stage === 'role') {
      if ([...refused.values()].some(({ mend }) => mend.startsWith('CREATE ROLE'))) break;
      await joinOwner(db, matrix);
    }
  }
  const passwords = refused.size > 0 ? [] : await wantedPasswords(db, matrix, options);
  const set: string[] = [];
  for (const { role, statement } of passwords) {
    if (await attempt(db, statement)) set.push(role);
    else
      refused.set(role, {
        stage: 'role',
        what: `the password of ${role} is not set`,
        mend: `\\password ${role}`,
      });
  }
  return { changes, refused: [...refused.values()], passwords: set };
}

/** Runs a statement. @returns false where the connected role may not. */
async function attempt(db: Transaction, statement: string): Promise<boolean> {
  try {
    await withTransaction(db, (savepoint) => savepoint.query(statement));
    return true;
  } catch (error) {
    if (sqlState(error) === '42501') return false;
    if (isCollision(error)) throw error;
    throw new AccessError(
      `${db.name}: ${(error as Error).message}, at: ${statement}. Nothing of it was changed.`,
      { cause: error },
    );
  }
}

/** Who is no superuser must inherit a role to give it things; that he made it gives him only the right to say so. */
async function joinOwner(db: Transaction, { owner }: DatabaseAccess): Promise<void> {
  const { rows } = await db.query<{ member: boolean }>(
    "SELECT pg_has_role(current_user, $1, 'USAGE') AS member",
    [owner],
  );
  if (!rows[0]?.member) await attempt(db, `GRANT ${quoteIdentifier(owner)} TO CURRENT_USER`);
}

async function wantedPasswords(
  db: Transaction,
  matrix: DatabaseAccess,
  { passwordOf = () => undefined, generatePassword }: ApplyOptions,
): Promise<{ role: string; statement: string }[]> {
  const stored = await readVerifiers(db, rolesOf(matrix));
  return rolesOf(matrix).flatMap((role) => {
    const verifier = stored?.get(role) ?? null;
    const given = passwordOf(role);
    if (given !== undefined) {
      return verifies(verifier, given) ? [] : [{ role, statement: passwordStatement(role, given) }];
    }
    if (!stored || verifier !== null || !generatePassword) return [];
    return [{ role, statement: passwordStatement(role, generatePassword(role)) }];
  });
}

/** What the server stores; undefined where only a superuser may look. */
async function readVerifiers(
  db: Database,
  roles: readonly string[],
): Promise<ReadonlyMap<string, string | null> | undefined> {
  const allowed = await db.query<{ allowed: boolean }>(
    "SELECT has_table_privilege('pg_authid', 'SELECT') AS allowed",
  );
  if (!allowed.rows[0]?.allowed) return undefined;
  const { rows } = await db.query<{ name: string; verifier: string | null }>(
    'SELECT rolname AS name, rolpassword AS verifier FROM pg_authid WHERE rolname = ANY ($1::text[])',
    [roles],
  );
  return new Map(rows.map(({ name, verifier }) => [name, verifier]));
}
