// Erases a person from all databases: first the applications and tracking, then atriz_core.
import { setTimeout as sleep } from 'node:timers/promises';
import { eq, getTableColumns, inArray, type SQL, sql } from 'drizzle-orm';
import { type ErasureRule, erasedUserId, keep } from '../../schema/erasure.ts';
import { type DatabaseKey, type DatabaseTarget, definitionOf, isDatabaseTarget } from '../databases.ts';
import { ConfigurationError, ErasureError, sqlState, ValidationError } from '../errors.ts';
import { assertMigrated } from '../migrations/assert-migrated.ts';
import type { Database, Pool } from '../pool.ts';
import { parseUserId } from '../references/require.ts';
import { erasureRules, nameOf } from '../references/schema.ts';
import { defaultTtlMs } from '../references/user-check.ts';
import { databaseTargets } from '../targets.ts';
import {
  type ChunkRange,
  quoteStorage,
  readChunks,
  readStorage,
  type Storage,
} from '../timescale/catalog.ts';
import { type Transaction, withTransaction } from '../transaction.ts';

/** A pool for each database of `databaseTargets()`, including the tracking databases of single applications. */
export type ErasurePools = Readonly<
  Record<Exclude<DatabaseKey, 'tracking'>, Pool> & Partial<Record<DatabaseTarget, Pool>>
>;

/** The number of rows that one erasure rule changed, or would change in a dry run. */
export interface ErasedRows {
  readonly database: DatabaseTarget;
  /** Table or view. */
  readonly relation: string;
  /** The column that contains the user id, or that refers to a row that contains it. */
  readonly column: string;
  readonly action: 'delete' | 'anonymise';
  readonly rows: number;
}

export interface ErasureReport {
  readonly userId: string;
  readonly isDryRun: boolean;
  /** Total number of rows deleted or anonymised. 0 if the person was already erased. */
  readonly rows: number;
  /** One entry for each rule that deletes or anonymises, even if it found no rows. */
  readonly relations: readonly ErasedRows[];
}

/** A step whose transaction is about to commit, or a wait that is about to begin. */
export type ErasureProgress =
  | { readonly step: 'lock-out' }
  | ({ readonly step: 'rows' } & ErasedRows)
  | { readonly step: 'wait'; readonly milliseconds: number };

export interface EraseOptions {
  /** Only counts the rows. Changes nothing and does not deactivate the person. Default false. */
  dryRun?: boolean | undefined;
  /**
   * How long services may still accept the person after the lock-out, in milliseconds: the longest `ttlMs` of
   * any `createUserCheck`. Rows that services write in this time are erased too. Default 60,000.
   */
  graceMs?: number | undefined;
  /** How long a statement may wait for a lock on a row or table, in milliseconds. Default 60,000. */
  lockTimeoutMs?: number | undefined;
  /** Called before a step commits or a wait begins. If it throws, the erasure ends without that step or wait. */
  onProgress?: ((progress: ErasureProgress) => void) | undefined;
}

/** If this many passes find rows, a service writes new rows without `requireUser`. */
const maxPasses = 10;
/** PostgreSQL's maximum for lock_timeout. */
const maxLockTimeoutMs = 2 ** 31 - 1;

/**
 * Erases a person by the rules in `erasure` of each schema file. First it deactivates the person, revokes their tokens
 * and waits `graceMs`, until services refuse the person. Then it erases their rows in all databases. Their row in
 * `users` is deleted last, so that it remains if the erasure is interrupted.
 *
 * Every step can be repeated: after a crash, another run completes the erasure. A run after that reports 0 rows. The
 * erasure also works if the person has no row in atriz_core.
 * @param pools one pool for each database of the environment. The roles must be able to change the tables. In tracking,
 * the role must own location_hourly.
 * @throws ConfigurationError if the pool of a database is missing; ValidationError for a user id that is not a uuid or
 * is `erasedUserId`, or for an option out of range; NotMigratedError or ConnectionError, before any change, for a
 * database that is not ready; ErasureError if a lock is not released within `lockTimeoutMs`, or if a service keeps
 * writing rows of the person.
 */
export async function eraseUser(
  pools: ErasurePools,
  userId: string,
  { dryRun = false, graceMs = defaultTtlMs, lockTimeoutMs = 60_000, onProgress }: EraseOptions = {},
): Promise<ErasureReport> {
  const id = parseUserId(userId);
  if (id === erasedUserId) {
    throw new ValidationError(`${id} stands for people who are erased already: it is nobody's id.`);
  }
  // Node runs a timer with a longer delay immediately, so services would get no time.
  if (!(graceMs >= 0 && graceMs < 2 ** 31)) {
    throw new ValidationError(`graceMs is ${graceMs}: use milliseconds from 0 to ${2 ** 31 - 1}.`);
  }
  if (!(Number.isInteger(lockTimeoutMs) && lockTimeoutMs > 0 && lockTimeoutMs <= maxLockTimeoutMs)) {
    throw new ValidationError(`lockTimeoutMs is ${lockTimeoutMs}: use whole milliseconds from 1.`);
  }
  // Includes all databases of the environment, so that none is forgotten, and further databases that the caller names.
  const keys = new Set([...databaseTargets(), ...Object.keys(pools).filter(isDatabaseTarget)]);
  const all = [...keys].map((key) => ({ key, pool: requirePool(pools, key) }));
  for (const { key, pool } of all) await assertMigrated(pool, key);
  const tally = new Tally();
  if (dryRun) {
    for (const { key, pool } of all) {
      for (const rule of activeRules(key)) {
        const storage = await readStorage(pool, key, rule.relation);
        tally.add(describe(key, rule, await countRows(pool, storage, rule, id)));
      }
    }
    return tally.report(id, true);
  }

  const pass = async (databases: typeof all) => {
    const before = tally.rows;
    for (const { key, pool } of databases) {
      const onRows = (rule: ActiveRule, rows: number) => {
        const erased = describe(key, rule, rows);
        tally.add(erased);
        onProgress?.({ step: 'rows', ...erased });
      };
      await eraseRows(pool, key, id, { onRows, lockTimeoutMs });
    }
    return tally.rows - before;
  };
  const others = all.filter(({ key }) => key !== 'core');
  const milliseconds = await withLockTimeout(pools.core, lockTimeoutMs, async (transaction) => {
    const left = await lockOut(transaction, id, graceMs);
    onProgress?.({ step: 'lock-out' });
    return left;
  });
  // Wait before the first pass, because an anonymised row no longer connects its dependent rows to the person.
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
  await pass(all.filter(({ key }) => key === 'core'));
  return tally.report(id, false);
}

/**
 * Deactivates the person and revokes their tokens.
 * @returns the remaining time in which services may accept the person, in milliseconds.
 */
async function lockOut(transaction: Transaction, userId: string, graceMs: number): Promise<number> {
  await transaction.query('UPDATE users SET is_active = false WHERE id = $1 AND is_active', [userId]);
  await transaction.query(
    'UPDATE auth_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL',
    [userId],
  );
  // updated_at is the time of the lock-out, in this run or an interrupted one, or of a later change.
  const { rows } = await transaction.query<{ milliseconds: number }>(
    `SELECT greatest($2 - extract(epoch FROM clock_timestamp() - updated_at) * 1000, 0)::float8 AS milliseconds
     FROM users WHERE id = $1`,
    [userId, graceMs],
  );
  return rows[0]?.milliseconds ?? 0;
}

function requirePool(pools: Partial<Record<DatabaseTarget, Pool>>, key: DatabaseTarget): Pool {
  const pool = pools[key];
  if (pool) return pool;
  throw new ConfigurationError(
    `There is no pool of ${key}: an erasure needs one for each of ${databaseTargets().join(', ')}.`,
  );
}

function describe(database: DatabaseTarget, rule: ActiveRule, rows: number): ErasedRows {
  const { relation, column, action } = rule;
  return { database, relation: nameOf(relation), column: column.name, action, rows };
}

/** Sums the rows that each rule changed, over all passes. */
class Tally {
  readonly #relations = new Map<string, ErasedRows>();

  get rows(): number {
    return [...this.#relations.values()].reduce((sum, { rows }) => sum + rows, 0);
  }

  add(erased: ErasedRows): void {
    const place = `${erased.database} ${erased.relation}.${erased.column}`;
    const before = this.#relations.get(place)?.rows ?? 0;
    this.#relations.set(place, { ...erased, rows: before + erased.rows });
  }

  report(userId: string, isDryRun: boolean): ErasureReport {
    return { userId, isDryRun, rows: this.rows, relations: [...this.#relations.values()] };
  }
}

/** A rule that changes rows. */
type ActiveRule = Exclude<ErasureRule, { action: 'keep' }>;

const activeRules = (key: DatabaseTarget): ActiveRule[] =>
  erasureRules(key).filter((rule) => rule.action !== 'keep');

/** Counts the rows that a rule would change. */
async function countRows(db: Database, storage: Storage, rule: ActiveRule, userId: string): Promise<number> {
  const [row] = await db.primary.orm.execute<{ rows: string }>(
    sql`SELECT count(*) AS rows FROM ${target(storage, rule)} WHERE ${isUnerased(rule, userId)}`,
  );
  return Number(row?.rows);
}

interface EraseRowsOptions {
  /** Called after each statement, before its transaction commits. Also called with 0 if a rule has no rows. */
  onRows: (rule: ActiveRule, rows: number) => void;
  /** Whole milliseconds from 1. */
  lockTimeoutMs: number;
}

/** Applies all rules of a database. A second call changes no rows. */
export async function eraseRows(
  db: Pool,
  key: DatabaseTarget,
  userId: string,
  options: EraseRowsOptions,
): Promise<void> {
  if (definitionOf(key).extensions.includes('timescaledb')) {
    for (const rule of activeRules(key)) await eraseChunks(db, key, rule, userId, options);
    return;
  }
  await withLockTimeout(db, options.lockTimeoutMs, async (transaction) => {
    for (const rule of activeRules(key)) await lockParents(transaction, rule, userId);
    for (const rule of activeRules(key)) {
      const storage = await readStorage(transaction, key, rule.relation);
      options.onRows(rule, await apply(transaction, storage, rule, userId));
    }
  });
}

// Inserting a child locks its parent FOR KEY SHARE. FOR UPDATE here delays such an insert until the rule for
// children and the rule for the parent have committed. `isUnerased` finds a child inserted afterwards.
async function lockParents(transaction: Transaction, { through }: ActiveRule, userId: string): Promise<void> {
  if (!through) return;
  await transaction.orm.execute(
    sql`SELECT FROM ${through.key.table} WHERE ${through.person} = ${userId} ORDER BY ${through.key} FOR UPDATE`,
  );
}

/** Runs `work` in a transaction with lock_timeout. @throws ErasureError if a lock is not released in time. */
async function withLockTimeout<Result>(
  db: Pool,
  milliseconds: number,
  work: (transaction: Transaction) => Promise<Result>,
): Promise<Result> {
  try {
    return await withTransaction(db, async (transaction) => {
      await transaction.query("SELECT set_config('lock_timeout', $1, true)", [`${milliseconds}ms`]);
      return await work(transaction);
    });
  } catch (error) {
    // 55P03 lock_not_available.
    if (sqlState(error) !== '55P03') throw error;
    throw new ErasureError(
      `Somebody has held rows or a table of ${db.name} for more than ${milliseconds} ms: look for a long transaction ` +
        'in pg_stat_activity, end it, and run the erasure again.',
      { cause: error },
    );
  }
}

/** Applies a rule to each chunk in its own transaction, so that no transaction is larger than a chunk. */
async function eraseChunks(
  db: Pool,
  key: DatabaseTarget,
  rule: ActiveRule,
  userId: string,
  { onRows, lockTimeoutMs }: EraseRowsOptions,
): Promise<void> {
  const storage = await readStorage(db, key, rule.relation);
  if (storage.isAggregate) await awaitRefresh(db, storage, lockTimeoutMs);
  if ((await countRows(db, storage, rule, userId)) === 0) return onRows(rule, 0);
  const chunks = await readChunks(db, storage);
  // A table that is not a hypertable has no chunks: one statement covers all of its rows.
  const ranges = chunks.length > 0 ? chunks : [undefined];
  for (const range of ranges) {
    await withLockTimeout(db, lockTimeoutMs, async (transaction) => {
      // Without this lock, TimescaleDB fails when two sessions delete the same compressed rows.
      await transaction.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`erase ${userId}`]);
      // Removes the limit of 100,000 rows. The size of a chunk already limits the transaction.
      await transaction.query('SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0');
      onRows(rule, await apply(transaction, storage, rule, userId, range));
    });
  }
}

// A running refresh may have read raw locations before their deletion and would still write their hours. The lock
// waits until such a refresh ends. A later refresh does not read the deleted locations.
async function awaitRefresh(db: Pool, storage: Storage, lockTimeoutMs: number): Promise<void> {
  await withLockTimeout(db, lockTimeoutMs, (transaction) =>
    transaction.query(`LOCK TABLE ${quoteStorage(storage)} IN SHARE ROW EXCLUSIVE MODE`),
  );
}

async function apply(
  transaction: Transaction,
  storage: Storage,
  rule: ActiveRule,
  userId: string,
  range?: ChunkRange,
): Promise<number> {
  const person = isUnerased(rule, userId);
  if (rule.action === 'anonymise') {
    const { count } = await transaction.orm
      .update(rule.relation)
      .set(Object.fromEntries(replacedIn(rule)))
      .where(person);
    return count;
  }
  const within = range ? sql` AND ${inRange(range)}` : sql``;
  const { count } = await transaction.orm.execute(
    sql`DELETE FROM ${target(storage, rule)} WHERE ${person}${within}`,
  );
  return count;
}

// The alias is the name in the schema, because Drizzle qualifies columns with it.
const target = (storage: Storage, { relation }: ActiveRule): SQL =>
  sql`${sql.raw(quoteStorage(storage))} AS ${sql.identifier(nameOf(relation))}`;

const inRange = ({ column, from, to }: ChunkRange): SQL =>
  sql`${sql.identifier(column)} >= ${from} AND ${sql.identifier(column)} < ${to}`;

type AnonymiseRule = Extract<ActiveRule, { action: 'anonymise' }>;

const replacedIn = ({ columns }: AnonymiseRule): [string, unknown][] =>
  Object.entries(columns).filter(([, value]) => value !== keep);

/** SQL condition: the rows that a rule still has to change. */
function isUnerased(rule: ActiveRule, userId: string): SQL {
  const { column, through } = rule;
  if (!through) return eq(column, userId);
  const isChildOf = (isParent: SQL) =>
    sql`${column} IN (SELECT ${through.as ?? through.key} FROM ${through.key.table} WHERE ${isParent})`;
  if (rule.action === 'delete') return isChildOf(eq(through.person, userId));
  // Includes rows that were added to a parent after it was anonymised. Such a parent does not name the person.
  const changes = replacedIn(rule).map(
    ([property, value]) => sql`${getTableColumns(rule.relation)[property]} IS DISTINCT FROM ${value}`,
  );
  const parents = inArray(through.person, [userId, erasedUserId]);
  return sql`${isChildOf(parents)} AND (${sql.join(changes, sql` OR `)})`;
}
