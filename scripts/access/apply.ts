// Applies the access matrix to a database in one transaction. Reports changes that the connected role may not make.
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
import { verifies } from './scram-verifier.ts';

/** A change failed for a reason other than a missing privilege. */
class AccessError extends AtrizDatabaseError {
  override readonly name = 'AccessError';
}

export interface ApplyOptions {
  /** The password that a role should have; undefined leaves its password unchanged. */
  passwordOf?: (role: string) => string | undefined;
  /** Generates a password for a role that has none and for which `passwordOf` returns undefined. */
  generatePassword?: (role: string) => string;
  /** The differences to mend; default: all. */
  only?: (difference: AccessDifference) => boolean;
  /** Only creates missing roles, sets passwords and, if needed, makes the connected role a member of the owner role. */
  makesRoles?: boolean;
}

export interface Applied {
  readonly changes: readonly AccessDifference[];
  /** Changes that need more rights than the connected role has. */
  readonly refused: readonly AccessDifference[];
  /** Roles that got a password. */
  readonly passwords: readonly string[];
}

/**
 * Applies the matrix to one database. A second call changes nothing, with one exception: a role that may not read
 * pg_authid sets the passwords of `passwordOf` again, because it cannot see whether they are set.
 * @throws AccessError that names the failed statement. The database is then unchanged.
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

/** The changes that `applyAccess` would make, except passwords. Read-only. */
export function planAccess(db: Pool, matrix: DatabaseAccess): Promise<AccessDifference[]> {
  const plan = async (transaction: Transaction) => {
    const due = compareAccess(matrix, await readAccess(transaction, matrix));
    const roles = due.filter(({ stage }) => stage === 'role');
    const joins = roles.length < due.length ? await missingMemberships(transaction, matrix) : [];
    return [...roles, ...joins, ...due.filter(({ stage }) => stage !== 'role')];
  };
  return withCatalogPath(db, plan, { readOnly: true });
}

// Roles belong to the server, so runs on two databases can collide. XX000 is "tuple concurrently updated";
// 42710 and 23505 mean that the other run created the role first.
const isCollision = (error: unknown) =>
  ['40001', '40P01', 'XX000', '42710', '23505'].includes(sqlState(error) ?? '');

export const isNewRole = ({ stage, mend }: AccessDifference): boolean =>
  stage === 'role' && mend.startsWith('CREATE ROLE');

async function applyOnce(db: Transaction, matrix: DatabaseAccess, options: ApplyOptions): Promise<Applied> {
  const { only = options.makesRoles ? isNewRole : () => true } = options;
  const read = async () => compareAccess(matrix, await readAccess(db, matrix)).filter(only);
  // Keyed by SQL: a statement repeated in a later round counts as one change.
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
    // Several rounds: REVOKE on a table also revokes column privileges, which the next round grants again.
    for (let round = 0; round < 3 && (await run(await untried(stage))) > 0; round += 1);
    if (stage === 'role') {
      if ([...refused.values()].some(isNewRole)) break;
      const isOwnerNeeded = options.makesRoles || (await read()).some((due) => due.stage !== 'role');
      for (const join of isOwnerNeeded ? await missingMemberships(db, matrix) : []) {
        if (await attempt(db, join.mend)) changes.set(join.mend, join);
      }
    }
  }
  // Without sufficient privileges, GRANT and REVOKE only warn: compare again.
  for (const left of await read()) {
    changes.delete(left.mend);
    refused.set(left.mend, left);
  }
  // On managed servers without superuser, the grants of extensions cannot be revoked. Set the passwords anyway.
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

/** Runs `statement`. Errors contain `name` instead of it. @returns false if the connected role lacks the privilege. */
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

/**
 * Returns the GRANT of the owner role to the connected role, if it is needed: only superusers and members of a role may
 * give objects to this role. With CREATEROLE, a role can make itself a member.
 */
async function missingMemberships(db: Transaction, { owner }: DatabaseAccess): Promise<AccessDifference[]> {
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

/** Reads the password verifier of each role. @returns undefined if the connected role may not read pg_authid. */
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
