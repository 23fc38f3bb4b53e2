// Erases a person from all databases: applications and tracking first, atriz_core last.
import { setTimeout as sleep } from 'node:timers/promises';
import { eq, getTableColumns, inArray, type SQL, sql } from 'drizzle-orm';
import { type ErasureRule, erasedUserId, keep, type Person } from '../../schema/erasure.ts';
import { type DatabaseKey, databaseKeys, definitionOf } from '../databases.ts';
import { ErasureError, sqlState, ValidationError } from '../errors.ts';
import { assertMigrated } from '../migrations/assert-migrated.ts';
import type { Database, Pool } from '../pool.ts';
import { parseUserId } from '../references/require.ts';
import { erasureRules, nameOf } from '../references/schema.ts';
import { defaultTtlMs } from '../references/user-check.ts';
import {
  type ChunkRange,
  quoteStorage,
  readChunks,
  readStorage,
  type Storage,
} from '../timescale/catalog.ts';
import { type Transaction, withTransaction } from '../transaction.ts';

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
    // updated_at is the time of the lock-out or later; the lock-out may be that of an interrupted run.
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

/** A rule that changes rows. */
type ActiveRule = Exclude<ErasureRule, { action: 'keep' }>;

/** Told of every statement, before its transaction commits. */
type OnRows = (rule: ActiveRule, rows: number) => void;

const activeRules = (key: DatabaseKey): ActiveRule[] =>
  erasureRules(key).filter((rule): rule is ActiveRule => rule.action !== 'keep');

/** How many rows a rule would change now. */
async function countRows(db: Database, key: DatabaseKey, rule: ActiveRule, userId: string): Promise<number> {
  const storage = await readStorage(db, key, rule.relation);
  const [row] = await db.primary.orm.execute<{ rows: string }>(
    sql`SELECT count(*) AS rows FROM ${target(storage, rule)} WHERE ${isUnerased(rule, userId)}`,
  );
  return Number(row?.rows);
}

export interface EraseRowsOptions {
  onRows: OnRows;
  /** Whole milliseconds from 1. */
  lockTimeoutMs: number;
}

/** Carries out all rules of a database. A second time it finds nothing. */
export async function eraseRows(
  db: Pool,
  key: DatabaseKey,
  userId: string,
  options: EraseRowsOptions,
): Promise<void> {
  if (definitionOf(key).extensions.includes('timescaledb')) {
    for (const rule of activeRules(key)) await eraseChunks(db, key, rule, userId, options);
    return;
  }
  await withLockTimeout(db, options.lockTimeoutMs, async (transaction) => {
    for (const rule of activeRules(key)) await lockParents(transaction, rule, userId);
    for (const rule of activeRules(key)) options.onRows(rule, await apply(transaction, rule, userId));
  });
}

// A child needs FOR KEY SHARE of its parent: none is added between the rule that looks for children
// and the rule that takes the person out of the parent. One that waited is found by `isUnerased`.
async function lockParents(transaction: Transaction, { through }: ActiveRule, userId: string): Promise<void> {
  if (!through) return;
  await transaction.orm.execute(
    sql`SELECT FROM ${through.key.table} WHERE ${through.person} = ${userId} ORDER BY ${through.key} FOR UPDATE`,
  );
}

/** A transaction in which nothing waits for ever. @throws ErasureError when others hold a lock for too long. */
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

/** Chunk by chunk, each in its own transaction: a crash loses one, and no transaction outgrows a chunk. */
async function eraseChunks(
  db: Pool,
  key: DatabaseKey,
  rule: ActiveRule,
  userId: string,
  { onRows, lockTimeoutMs }: EraseRowsOptions,
): Promise<void> {
  const storage = await readStorage(db, key, rule.relation);
  if (storage.isAggregate) await awaitRefresh(db, storage, lockTimeoutMs);
  if ((await countRows(db, key, rule, userId)) === 0) return onRows(rule, 0);
  const chunks = await readChunks(db, storage);
  // A relation that is not a hypertable has rows, but no chunks.
  const ranges = chunks.length > 0 ? chunks : [undefined];
  for (const range of ranges) {
    await withLockTimeout(db, lockTimeoutMs, async (transaction) => {
      // TimescaleDB fails, rather than waits, when two sessions delete the same compressed rows.
      await transaction.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`erase ${userId}`]);
      // The default of 100,000 guards against accidents; a chunk is bounded by itself.
      await transaction.query('SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0');
      onRows(rule, await apply(transaction, rule, userId, { storage, range }));
    });
  }
}

// A refresh that read raw points before they were deleted writes them down later: let it finish first.
// Those that start after this one read points that are gone.
async function awaitRefresh(db: Pool, storage: Storage, lockTimeoutMs: number): Promise<void> {
  await withLockTimeout(db, lockTimeoutMs, (transaction) =>
    transaction.query(`LOCK TABLE ${quoteStorage(storage)} IN SHARE ROW EXCLUSIVE MODE`),
  );
}

async function apply(
  transaction: Transaction,
  rule: ActiveRule,
  userId: string,
  where?: { storage: Storage; range: ChunkRange | undefined },
): Promise<number> {
  const person = isUnerased(rule, userId);
  if (rule.action === 'anonymise') {
    const replaced = replacedIn(rule);
    const { count } = await transaction.orm
      .update(rule.relation)
      .set(Object.fromEntries(replaced))
      .where(person);
    return count;
  }
  const storage = where?.storage ?? { schema: 'public', name: nameOf(rule.relation), isAggregate: false };
  const within = where?.range ? sql` AND ${inRange(where.range)}` : sql``;
  const { count } = await transaction.orm.execute(
    sql`DELETE FROM ${target(storage, rule)} WHERE ${person}${within}`,
  );
  return count;
}

// Columns are qualified by the relation's own name, whatever stores its rows.
const target = (storage: Storage, { relation }: ActiveRule): SQL =>
  sql`${sql.raw(quoteStorage(storage))} AS ${sql.identifier(nameOf(relation))}`;

const inRange = ({ column, from, to }: ChunkRange): SQL =>
  sql`${sql.identifier(column)} >= ${from} AND ${sql.identifier(column)} < ${to}`;

type AnonymiseRule = Extract<ActiveRule, { action: 'anonymise' }>;

const replacedIn = ({ columns }: AnonymiseRule): [string, unknown][] =>
  Object.entries(columns).filter(([, value]) => value !== keep);

/** The rows that a rule has still to change. */
function isUnerased(rule: ActiveRule, userId: string): SQL {
  const { column, through } = rule;
  if (rule.action === 'delete' || !through) return belongsTo(rule, userId);
  // Also rows that were added to an anonymised parent: nothing else would ever lead to them again.
  const changes = replacedIn(rule).map(
    ([property, value]) => sql`${getTableColumns(rule.relation)[property]} IS DISTINCT FROM ${value}`,
  );
  const parents = inArray(through.person, [userId, erasedUserId]);
  return sql`${hangsOn({ column, through }, parents)} AND (${sql.join(changes, sql` OR `)})`;
}

const belongsTo = ({ column, through }: Person, userId: string): SQL =>
  through ? hangsOn({ column, through }, eq(through.person, userId)) : eq(column, userId);

const hangsOn = ({ column, through }: Required<Person>, isTheirs: SQL): SQL =>
  sql`${column} IN (SELECT ${through.as ?? through.key} FROM ${through.key.table} WHERE ${isTheirs})`;
