// Makes a database what the matrix says, in one transaction. What the connected role may not do is left and named.
import { setTimeout as sleep } from 'node:timers/promises';
import { AtrizDatabaseError, sqlState } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { type Transaction, withTransaction } from '../../src/transaction.ts';
import { readAccess } from './catalog.ts';
import { type AccessDifference, compareAccess, stages } from './check.ts';
import { type DatabaseAccess, matrixRoles } from './matrix.ts';
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
  /** The differences to mend; default: all. */
  only?: (difference: AccessDifference) => boolean;
}

export interface Applied {
  readonly changes: readonly AccessDifference[];
  /** Changes that need more rights than the connected role has. */
  readonly refused: readonly AccessDifference[];
  /** Roles that got a password. */
  readonly passwords: readonly string[];
}

/**
 * Applies the matrix to one database. A second call changes nothing, except that a role that may not read
 * pg_authid sets the passwords of `passwordOf` again: it cannot see that they are set.
 * @throws AccessError naming the statement that failed: nothing was changed.
 */
export async function applyAccess(
  db: Pool,
  matrix: DatabaseAccess,
  options: ApplyOptions = {},
): Promise<Applied> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await withCatalogPath(db, (transaction) => applyOnce(transaction, matrix, options));
    } catch (error) {
      if (attempt >= 5 || !isCollision(error)) throw error;
      await sleep(50 + Math.random() * 200);
    }
  }
}

/** What `applyAccess` would change, except passwords. Reads only. */
export function planAccess(db: Pool, matrix: DatabaseAccess): Promise<AccessDifference[]> {
  const plan = async (transaction: Transaction) => {
    const due = compareAccess(matrix, await readAccess(transaction, matrix));
    const joins = await missingMemberships(transaction, matrix, due);
    const roles = due.filter(({ stage }) => stage === 'role');
    return [...roles, ...joins, ...due.filter(({ stage }) => stage !== 'role')];
  };
  return withCatalogPath(db, plan, { readOnly: true });
}

// Roles are the server's: two databases may be worked on at once. XX000 is "tuple concurrently updated",
// 42710 and 23505 a role that the other one was faster to create.
const isCollision = (error: unknown) =>
  ['40001', '40P01', 'XX000', '42710', '23505'].includes(sqlState(error) ?? '');

async function applyOnce(db: Transaction, matrix: DatabaseAccess, options: ApplyOptions): Promise<Applied> {
  const { only = () => true } = options;
  const read = async () => compareAccess(matrix, await readAccess(db, matrix)).filter(only);
  // By their SQL: what a second round tries again is one change.
  const changes = new Map<string, AccessDifference>();
  const refused = new Map<string, AccessDifference>();
  const run = async (due: readonly AccessDifference[]) => {
    for (const difference of due) {
      const done = await attempt(db, difference.mend);
      (done ? changes : refused).set(difference.mend, difference);
    }
    return due.length;
  };
  const untried = async (stage: AccessDifference['stage']) =>
    (await read()).filter((due) => due.stage === stage && !refused.has(due.mend));
  for (const stage of stages) {
    // Again: revoking a privilege on a table takes those on its columns along.
    for (let round = 0; round < 3 && (await run(await untried(stage))) > 0; round += 1);
    if (stage === 'role') {
      if ([...refused.values()].some(({ mend }) => mend.startsWith('CREATE ROLE'))) break;
      for (const join of await missingMemberships(db, matrix, await read())) {
        if (await attempt(db, join.mend)) changes.set(join.mend, join);
      }
    }
  }
  // GRANT and REVOKE without the right to do so only warn.
  for (const left of await read()) {
    changes.delete(left.mend);
    refused.set(left.mend, left);
  }
  // Where nobody is a superuser, as on managed servers, what an extension opened stays open: passwords are set.
  const isAccessApplied = [...refused.values()].every(({ ofExtension }) => ofExtension);
  const passwords = isAccessApplied ? await wantedPasswords(db, matrix, options) : [];
  const set: string[] = [];
  for (const { role, statement } of passwords) {
    if (await attempt(db, statement, `the password of ${role}`)) set.push(role);
    else
      refused.set(role, {
        stage: 'role',
        what: `the password of ${role} is not set`,
        mend: `\\password ${role}`,
      });
  }
  return { changes: [...changes.values()], refused: [...refused.values()], passwords: set };
}

/** Runs a statement, which messages call `name`. @returns false where the connected role may not. */
async function attempt(db: Transaction, statement: string, name = statement): Promise<boolean> {
  try {
    await withTransaction(db, (savepoint) => savepoint.query(statement));
    return true;
  } catch (error) {
    if (sqlState(error) === '42501') return false;
    if (isCollision(error)) throw error;
    throw new AccessError(
      `${db.name}: ${(error as Error).message}, at: ${name}. Nothing of it was changed.`,
      {
        cause: error,
      },
    );
  }
}

/** Without superuser, transferring ownership requires membership in the role; CREATEROLE only allows granting it to oneself. */
async function missingMemberships(
  db: Transaction,
  { owner }: DatabaseAccess,
  due: readonly AccessDifference[],
): Promise<AccessDifference[]> {
  if (due.every(({ stage }) => stage === 'role')) return [];
  const { rows } = await db.query<{ me: string; member: boolean }>(
    `SELECT current_user AS me, coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = current_user), false) OR coalesce(
       (SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = $1), false) AS member`,
    [owner],
  );
  const [about] = rows;
  if (!about || about.member) return [];
  return [
    {
      stage: 'owner',
      what: `${about.me} has to be a member of ${owner}, and stays one, to give it things`,
      mend: `GRANT ${quoteIdentifier(owner)} TO ${quoteIdentifier(about.me)}`,
    },
  ];
}

async function wantedPasswords(
  db: Transaction,
  matrix: DatabaseAccess,
  { passwordOf = () => undefined, generatePassword }: ApplyOptions,
): Promise<{ role: string; statement: string }[]> {
  const stored = await readVerifiers(db, matrixRoles(matrix));
  return matrixRoles(matrix).flatMap((role) => {
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
  db: Transaction,
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
