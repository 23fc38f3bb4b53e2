// Carries out the rules of erasure in one database: counts, deletes or anonymises a person's rows.
import { eq, getTableColumns, inArray, type SQL, sql } from 'drizzle-orm';
import { type ErasureRule, erasedUserId, keep, type Person } from '../../schema/erasure.ts';
import { type DatabaseKey, definitionOf } from '../databases.ts';
import { ErasureError, sqlState } from '../errors.ts';
import type { Database, Pool } from '../pool.ts';
import { erasureRules, nameOf } from '../references/schema.ts';
import {
  type ChunkRange,
  quoteStorage,
  readChunks,
  readStorage,
  type Storage,
} from '../timescale/catalog.ts';
import { type Transaction, withTransaction } from '../transaction.ts';

/** A rule that changes rows. */
export type ActiveRule = Exclude<ErasureRule, { action: 'keep' }>;

/** Told of every statement, before its transaction commits. */
type OnRows = (rule: ActiveRule, rows: number) => void;

export const activeRules = (key: DatabaseKey): ActiveRule[] =>
  erasureRules(key).filter((rule): rule is ActiveRule => rule.action !== 'keep');

/** How many rows a rule would change now. */
export async function countRows(
  db: Database,
  key: DatabaseKey,
  rule: ActiveRule,
  userId: string,
): Promise<number> {
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
export async function withLockTimeout<Result>(
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
