// Carries out the rules of erasure in one database: counts, deletes or anonymises a person's rows.
import { type SQL, sql } from 'drizzle-orm';
import { type ErasureRule, keep, type Person } from '../../schema/erasure.ts';
import { type DatabaseKey, definitionOf } from '../databases.ts';
import type { Database, Pool } from '../pool.ts';
import { type Transaction, withTransaction } from '../transaction.ts';
import { erasureRules, nameOf } from './schema.ts';
import { type ChunkRange, quoteStorage, readChunks, readStorage, type Storage } from './storage.ts';

/** A rule that changes rows. */
export type ActiveRule = Exclude<ErasureRule, { action: 'keep' }>;

/** Told of every statement, before its transaction commits. */
export type OnRows = (rule: ActiveRule, rows: number) => void;

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
    sql`SELECT count(*) AS rows FROM ${target(storage, rule)} WHERE ${belongsTo(rule, userId)}`,
  );
  return Number(row?.rows);
}

/** Carries out all rules of a database. A second time it finds nothing. */
export async function eraseRows(db: Pool, key: DatabaseKey, userId: string, onRows: OnRows): Promise<void> {
  if (definitionOf(key).extensions.includes('timescaledb')) {
    for (const rule of activeRules(key)) await eraseChunks(db, key, rule, userId, onRows);
    return;
  }
  await withTransaction(db, async (transaction) => {
    for (const rule of activeRules(key)) onRows(rule, await apply(transaction, rule, userId));
  });
}

/** Chunk by chunk, each in its own transaction: a crash loses one, and no transaction outgrows a chunk. */
async function eraseChunks(
  db: Pool,
  key: DatabaseKey,
  rule: ActiveRule,
  userId: string,
  onRows: OnRows,
): Promise<void> {
  const storage = await readStorage(db, key, rule.relation);
  if (storage.materialized) await awaitRefresh(db, storage);
  if ((await countRows(db, key, rule, userId)) === 0) return onRows(rule, 0);
  const chunks = await readChunks(db, storage);
  // What is no hypertable has rows, but no chunks.
  const ranges = chunks.length > 0 ? chunks : [undefined];
  for (const range of ranges) {
    await withTransaction(db, async (transaction) => {
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
async function awaitRefresh(db: Pool, storage: Storage): Promise<void> {
  await withTransaction(db, (transaction) =>
    transaction.query(`LOCK TABLE ${quoteStorage(storage)} IN SHARE ROW EXCLUSIVE MODE`),
  );
}

async function apply(
  transaction: Transaction,
  rule: ActiveRule,
  userId: string,
  where?: { storage: Storage; range: ChunkRange | undefined },
): Promise<number> {
  const person = belongsTo(rule, userId);
  if (rule.action === 'anonymise') {
    const replaced = Object.entries(rule.columns).filter(([, value]) => value !== keep);
    const { count } = await transaction.orm
      .update(rule.relation)
      .set(Object.fromEntries(replaced))
      .where(person);
    return count;
  }
  const storage = where?.storage ?? { schema: 'public', name: nameOf(rule.relation), materialized: false };
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

const belongsTo = ({ column, through }: Person, userId: string): SQL =>
  through
    ? sql`${column} IN (SELECT ${through.key} FROM ${through.key.table} WHERE ${through.person} = ${userId})`
    : sql`${column} = ${userId}`;
