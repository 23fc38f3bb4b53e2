// Erases a person from all databases: applications and tracking first, atriz_core last.
import { setTimeout as sleep } from 'node:timers/promises';
import { erasedUserId } from '../../schema/erasure.ts';
import { type DatabaseKey, databaseKeys } from '../databases.ts';
import { ErasureError, ValidationError } from '../errors.ts';
import { assertMigrated } from '../migrations/guard.ts';
import type { Pool } from '../pool.ts';
import { parseUserId } from '../references/require.ts';
import { nameOf } from '../references/schema.ts';
import { defaultTtlMs } from '../references/user-check.ts';
import { type ActiveRule, activeRules, countRows, eraseRows, withLockTimeout } from './erase-rows.ts';

/** What one rule of the schema did, or would do. */
export interface ErasedRows {
  readonly database: DatabaseKey;
  /** Table or view. */
  readonly relation: string;
  /** The column that leads to the person. */
  readonly column: string;
  readonly action: 'delete' | 'anonymise';
  readonly rows: number;
}

export interface ErasureReport {
  readonly userId: string;
  readonly isDryRun: boolean;
  /** All rows deleted or anonymised; 0 when nothing was left to do. */
  readonly rows: number;
  /** One entry for each rule, also where it found nothing. */
  readonly relations: readonly ErasedRows[];
}

/** A step that is about to be committed, or a wait. */
export type ErasureProgress =
  | { readonly step: 'lock-out' }
  | ({ readonly step: 'rows' } & ErasedRows)
  | { readonly step: 'wait'; readonly milliseconds: number };

export interface EraseOptions {
  /** Only count. Changes nothing, locks nobody out. Default false. */
  dryRun?: boolean | undefined;
  /**
   * How long services may go on accepting the person after the lock-out, in milliseconds: the longest
   * `ttlMs` of a `createUserCheck`. What they write meanwhile is erased too. Default 60,000.
   */
  graceMs?: number | undefined;
  /** How long a statement may wait for rows and tables that others hold, in milliseconds. Default 60,000. */
  lockTimeoutMs?: number | undefined;
  /** Called for each step, inside of its transaction. An error thrown here ends the erasure there. */
  onProgress?: ((progress: ErasureProgress) => void) | undefined;
}

/** A person who still writes after that many passes was not kept out. */
const maxPasses = 10;
/** PostgreSQL's own bound of lock_timeout. */
const maxLockTimeoutMs = 2 ** 31 - 1;

/**
 * Carries out the rules that each schema file has in `erasure`. First the person is deactivated and
 * their tokens revoked, so that nothing new is written; their row in atriz_core goes last, and so marks an
 * erasure that was interrupted. Services get `graceMs` to notice before anything is deleted. Every step may be repeated: run it again after a crash, and it
 * finishes; run it once more, and it reports no rows. Works by id when the row in core is gone already.
 * @param pools one of each database; their roles may change the tables, and own the aggregate.
 * @throws ValidationError for a value that is not a uuid, or is `erasedUserId`; NotMigratedError or ConnectionError
 * for a database that is not ready, before anything changes; ErasureError when others hold the
 * person's rows for too long.
 */
export async function eraseUser(
  pools: Readonly<Record<DatabaseKey, Pool>>,
  userId: string,
  { dryRun = false, graceMs = defaultTtlMs, lockTimeoutMs = 60_000, onProgress }: EraseOptions = {},
): Promise<ErasureReport> {
  const id = parseUserId(userId);
  if (id === erasedUserId) {
    throw new ValidationError(`${id} stands for people who are erased already: it is nobody's id.`);
  }
  // A longer timer of Node ends at once: the services would get no time.
  if (!(graceMs >= 0 && graceMs < 2 ** 31)) {
    throw new ValidationError(`graceMs is ${graceMs}: use milliseconds from 0 to ${2 ** 31 - 1}.`);
  }
  if (!(Number.isInteger(lockTimeoutMs) && lockTimeoutMs > 0 && lockTimeoutMs <= maxLockTimeoutMs)) {
    throw new ValidationError(`lockTimeoutMs is ${lockTimeoutMs}: use whole milliseconds from 1.`);
  }
  for (const key of databaseKeys) await assertMigrated(pools[key], key);
  const tally = new Tally();
  if (dryRun) {
    await eachRule(async (key, rule) => tally.add(key, rule, await countRows(pools[key], key, rule, id)));
    return tally.report(id, true);
  }

  const pass = async (keys: readonly DatabaseKey[]) => {
    const before = tally.rows;
    for (const key of keys) {
      const onRows = (rule: ActiveRule, rows: number) => {
        tally.add(key, rule, rows);
        onProgress?.({ step: 'rows', ...describe(key, rule), rows });
      };
      await eraseRows(pools[key], key, id, { onRows, lockTimeoutMs });
    }
    return tally.rows - before;
  };
  const others = databaseKeys.filter((key) => key !== 'core');
  const milliseconds = await lockOut(pools.core, id, { graceMs, lockTimeoutMs, onProgress });
  // Before the first pass: anonymising a row cuts what hangs on it off from the person.
  if (milliseconds > 0) {
    onProgress?.({ step: 'wait', milliseconds });
    await sleep(milliseconds);
  }
  for (let passes = 1; (await pass(others)) > 0; passes += 1) {
    if (passes === maxPasses) {
      throw new ErasureError(
        `Rows of ${id} are still being written, after ${maxPasses} passes: find the service that does not ask ` +
          'requireUser, stop it, and run the erasure again.',
      );
    }
  }
  await pass(['core']);
  return tally.report(id, false);
}

/** @returns the milliseconds for which services may still take the person for active. */
async function lockOut(
  core: Pool,
  userId: string,
  {
    graceMs,
    lockTimeoutMs,
    onProgress,
  }: { graceMs: number; lockTimeoutMs: number; onProgress: EraseOptions['onProgress'] },
): Promise<number> {
  return withLockTimeout(core, lockTimeoutMs, async (transaction) => {
    await transaction.query('UPDATE users SET is_active = false WHERE id = $1 AND is_active', [userId]);
    await transaction.query(
      'UPDATE auth_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL',
      [userId],
    );
    // updated_at is not before the lock-out, be it this one or that of an interrupted run.
    const { rows } = await transaction.query<{ milliseconds: number }>(
      `SELECT greatest($2 - extract(epoch FROM clock_timestamp() - updated_at) * 1000, 0)::float8 AS milliseconds
       FROM users WHERE id = $1`,
      [userId, graceMs],
    );
    onProgress?.({ step: 'lock-out' });
    return rows[0]?.milliseconds ?? 0;
  });
}

async function eachRule(visit: (key: DatabaseKey, rule: ActiveRule) => Promise<void>): Promise<void> {
  for (const key of databaseKeys) for (const rule of activeRules(key)) await visit(key, rule);
}

const describe = (database: DatabaseKey, { relation, column, action }: ActiveRule) => ({
  database,
  relation: nameOf(relation),
  column: column.name,
  action,
});

/** Adds up what each rule did, over all passes. */
class Tally {
  readonly #relations = new Map<ActiveRule, ErasedRows>();

  get rows(): number {
    return [...this.#relations.values()].reduce((sum, { rows }) => sum + rows, 0);
  }

  add(key: DatabaseKey, rule: ActiveRule, rows: number): void {
    const before = this.#relations.get(rule)?.rows ?? 0;
    this.#relations.set(rule, { ...describe(key, rule), rows: before + rows });
  }

  report(userId: string, isDryRun: boolean): ErasureReport {
    return { userId, isDryRun, rows: this.rows, relations: [...this.#relations.values()] };
  }
}
