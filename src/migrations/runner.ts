// Applies migrations and takes them back, under a lock, and records them in drizzle-kit's table.
import { type DatabaseTarget, definitionOf, keyOf } from '../databases.ts';
import { MigrationError, OutOfStepError, sqlState, ValidationError } from '../errors.ts';
import type { Database, Pool } from '../pool.ts';
import { requireTimescale } from '../timescale/timescale.ts';
import { readApplied } from './applied.ts';
import { type ApplyOptions, applyFile } from './apply.ts';
import {
  clearProgress,
  createHistoryTables,
  type HistoryEntry,
  type MigrationAction,
  readHistory,
  recordHistory,
  type Subject,
} from './history.ts';
import {
  createMigrationsTable,
  downPath,
  irreversibleReason,
  isEmpty,
  type Migration,
  migrationsTable,
  readDown,
  readFolder,
  type SqlFile,
  unfinishedMark,
} from './journal.ts';
import { orRefuse, refusalError } from './plan-errors.ts';
import { inTransaction, type LockOptions, resetSession, withMigrationSession } from './session.ts';
import { withoutValues } from './sql-error.ts';
import { compareMigrations, type MigrationState, nameOfRow, planDown, planUp } from './state.ts';

interface CommonOptions extends LockOptions, ApplyOptions {
  /** Folder of the migrations. Default: the package's own. */
  folder?: string | undefined;
  /** Called after each migration, with its duration in milliseconds. */
  onDone?: ((migration: Migration, milliseconds: number) => void) | undefined;
}

export interface MigrateOptions extends CommonOptions {
  /** Tag of the last migration to apply. Default: all. */
  to?: string | undefined;
  /** Apply migrations that are older than the latest applied one. Default: refuse. */
  allowOutOfOrder?: boolean | undefined;
  /** Return what would be applied, and apply nothing. */
  dryRun?: boolean | undefined;
}

export interface RollbackOptions extends CommonOptions {
  /** Number of migrations to take back. Default 1. */
  count?: number | undefined;
  /** Tag of the migration that stays the latest applied. */
  to?: string | undefined;
  /** Tags that a person confirmed, newest first. If the plan has other tags, nothing is taken back. */
  expected?: readonly string[] | undefined;
}

/**
 * Applies pending migrations in order. If several processes call it at once, they run one after the other.
 * @returns the migrations that this call applied; with `dryRun`, those that it would apply.
 * @throws OutOfStepError before anything runs, if files are edited, out of order, empty or not sound.
 * @throws ValidationError if `to` is unknown; TimescaleMissingError; ConfigurationError behind a proxy.
 * @throws MigrationLockError if another process holds the migration lock for longer than `waitMs`.
 * @throws MigrationError naming file, line and PostgreSQL's message. The failed migration leaves nothing behind; with
 * `-- transaction: none`, the next run resumes where it stopped. Earlier migrations stay applied.
 */
export async function migrate(
  db: Pool,
  key: DatabaseTarget,
  options: MigrateOptions = {},
): Promise<readonly Migration[]> {
  const plan = (state: MigrationState) => {
    const run = orRefuse(planUp(state, options), key);
    const empty = run.filter(isEmpty);
    if (empty.length > 0) throw refusalError({ kind: 'empty', tags: tagsOf(empty) }, key);
    return run;
  };
  // No lock is needed if nothing is pending. Migrations that another process has not committed count as pending.
  const due = plan(await getMigrationStatus(db, key, options.folder));
  if (due.length === 0 || options.dryRun) return due;
  if (definitionOf(key).extensions.includes('timescaledb')) await requireTimescale(db);
  return underLock(db, key, options, async (where, state) => {
    const run = plan(state);
    for (const migration of run) await apply(where, migration, key, options);
    return run;
  });
}

/**
 * Takes back the latest applied migrations, newest first, by their `.down.sql` files.
 * @returns the migrations that were taken back.
 * @throws MigrationError before anything runs, if a down file is missing, empty, unfinished or marked
 * `-- irreversible: reason`; or if a down file fails, as in `migrate`.
 * @throws OutOfStepError if the migrations to take back are not those of `expected`, or a newer one has no file.
 * @throws ValidationError if `count` or `to` is wrong; MigrationLockError and ConfigurationError as in `migrate`.
 */
export async function rollback(
  db: Pool,
  key: DatabaseTarget,
  options: RollbackOptions = {},
): Promise<readonly Migration[]> {
  return underLock(db, key, options, async (where, state) => {
    const steps = planRollback(state, key, options);
    for (const step of steps) await takeBack(where, step, key, options);
    return steps.map(({ migration }) => migration);
  });
}

/**
 * Takes the latest migration back and applies it again, under one lock.
 * @throws OutOfStepError before anything runs, if the migration could not be applied again; the errors of `rollback`.
 */
export async function redo(
  db: Pool,
  key: DatabaseTarget,
  options: Omit<RollbackOptions, 'count' | 'to'> = {},
): Promise<readonly Migration[]> {
  return underLock(db, key, options, async (where, state) => {
    const { expected } = options;
    const steps = planRollback(state, key, { expected });
    orRefuse(planUp({ ...state, outOfOrder: [] }), key);
    for (const step of steps) {
      await takeBack(where, step, key, options);
      await apply(where, step.migration, key, options);
    }
    return steps.map(({ migration }) => migration);
  });
}

const tagsOf = (migrations: readonly Migration[]) => migrations.map(({ tag }) => tag);

export interface RollbackStep {
  readonly migration: Migration;
  readonly down: SqlFile;
}

/** Plans a rollback and checks the down files of all its steps. @throws the errors of `rollback` if it is refused. */
export function planRollback(
  state: MigrationState,
  key: DatabaseTarget,
  options: Pick<RollbackOptions, 'count' | 'to' | 'expected'>,
): RollbackStep[] {
  const { count = 1, to, expected } = options;
  if (!Number.isInteger(count) || count < 1) {
    throw new ValidationError(`count is ${count}: use a whole number from 1.`);
  }
  const run = orRefuse(planDown(state, { count, to }), key);
  const tags = tagsOf(run);
  if (expected && expected.join() !== tags.join()) {
    throw new OutOfStepError(
      `${key} was migrated meanwhile, nothing was taken back: it would be ${tags.join(', ')} now. Look again.`,
      { database: key },
    );
  }
  return run.map((migration) => ({ migration, down: requireDown(migration, key) }));
}

function requireDown(migration: Migration, key: DatabaseTarget): SqlFile {
  const refuse = (reason: string) =>
    new MigrationError(`${migration.tag} of ${key} cannot be taken back: ${reason}`, {
      database: key,
      migration: migration.tag,
    });
  const down = readDown(migration);
  if (!down) {
    throw refuse(
      `${downPath(migration)} does not exist. "npm run db:generate -- ${keyOf(key)}" writes it, as far as it can be derived.`,
    );
  }
  if ('problem' in down) throw refuse(down.problem);
  if (down.sql.includes(unfinishedMark)) {
    throw refuse(`${downPath(migration)} is a stub. Write what stands behind "${unfinishedMark}".`);
  }
  const reason = irreversibleReason(down.sql);
  if (reason !== undefined) throw refuse(`${reason.trim() || 'it is marked irreversible'}.`);
  if (isEmpty(down)) {
    throw refuse(`${downPath(migration)} holds no statement. Write it, or "-- irreversible: reason".`);
  }
  return down;
}

/** Compares the migration files with the database. Read-only: does not even create the migrations table. */
export async function getMigrationStatus(
  db: Database,
  key: DatabaseTarget,
  folder?: string,
): Promise<MigrationState> {
  const { migrations, problems } = readFolder(key, folder);
  const state = compareMigrations(migrations, await readApplied(db), problems);
  if (state.orphaned.length === 0) return state;
  const history = await readHistory(db).catch(unlessDenied);
  const orphaned = state.orphaned.map((row) => {
    const entry = history.find(({ hash, action }) => hash === row.hash && ['up', 'mark'].includes(action));
    return entry ? { ...row, tag: entry.tag } : row;
  });
  return { ...state, orphaned };
}

/** The role of an application may read which migrations are applied, but not the history. */
function unlessDenied(error: unknown): HistoryEntry[] {
  if (sqlState(error) === '42501') return [];
  throw error;
}

/**
 * Records a migration as applied without running it, to adopt an existing database.
 * @throws ValidationError if the tag is unknown or already applied.
 */
export async function markApplied(
  db: Pool,
  key: DatabaseTarget,
  tag: string,
  options: CommonOptions = {},
): Promise<void> {
  await underLock(db, key, options, async ({ session }, state) => {
    const migration = state.files.find((file) => file.tag === tag);
    if (!migration) throw refusalError({ kind: 'unknown-target', tags: [tag] }, key);
    if (state.applied.includes(migration)) {
      throw new ValidationError(`${tag} of ${key} is recorded as applied already.`);
    }
    await inTransaction(session, async () => {
      await insertRow(session, migration);
      await clearProgress(session, tag);
      await note(session, migration, 'mark');
    });
  });
}

/**
 * Removes the record that a migration is applied, without running its down file. Use it if the file of the migration
 * was deleted, or if the migration should run again.
 * @param tag The tag; or the first 12 characters of the hash, if the file was deleted and the history has no tag.
 * @throws ValidationError unless exactly one such migration is recorded as applied.
 */
export async function unmarkApplied(
  db: Pool,
  key: DatabaseTarget,
  tag: string,
  options: CommonOptions = {},
): Promise<void> {
  await underLock(db, key, options, async ({ session }, { applied, orphaned }) => {
    const rows = [
      ...orphaned.map((row) => ({ ...row, tag: nameOfRow(row) })),
      ...applied.map((migration) => ({ ...migration, createdAt: migration.when })),
    ];
    const found = rows.filter((row) => row.tag === tag);
    const [row] = found;
    if (!row || found.length > 1) {
      throw new ValidationError(
        `${found.length === 0 ? 'No migration' : 'More than one migration'} "${tag}" of ${key} is recorded as applied: ` +
          `the records are ${rows.map((one) => one.tag).join(', ') || 'none'}.`,
      );
    }
    await inTransaction(session, async () => {
      await session.query(`DELETE FROM ${migrationsTable} WHERE created_at = $1`, [row.createdAt]);
      await clearProgress(session, row.tag);
      await note(session, row, 'unmark');
    });
  });
}

/** Accepts edited files: their hashes replace the recorded ones. @returns what was accepted. */
export async function repair(
  db: Pool,
  key: DatabaseTarget,
  options: CommonOptions = {},
): Promise<MigrationState['edited']> {
  return underLock(db, key, options, async ({ session }, { edited }) => {
    await inTransaction(session, async () => {
      for (const { migration } of edited) {
        await session.query(`UPDATE ${migrationsTable} SET hash = $1 WHERE created_at = $2`, [
          migration.hash,
          migration.when,
        ]);
        await note(session, migration, 'repair');
      }
    });
    return edited;
  });
}

interface Where {
  readonly pool: Pool;
  readonly session: Database;
}

/** Runs `work` under the lock, with the migration state that was read under the lock. */
const underLock = <Result>(
  pool: Pool,
  key: DatabaseTarget,
  options: CommonOptions,
  work: (where: Where, state: MigrationState) => Promise<Result>,
): Promise<Result> =>
  withMigrationSession(pool, options, async (session) => {
    for (const statement of [...createMigrationsTable, ...createHistoryTables])
      await session.query(statement);
    return work({ pool, session }, await getMigrationStatus(session, key, options.folder));
  });

const apply = (where: Where, migration: Migration, key: DatabaseTarget, options: CommonOptions) =>
  execute(where, migration, migration, { key, tag: migration.tag, action: 'up' }, options, () =>
    insertRow(where.session, migration),
  );

const takeBack = (
  where: Where,
  { migration, down }: RollbackStep,
  key: DatabaseTarget,
  options: CommonOptions,
) =>
  execute(where, down, migration, { key, tag: migration.tag, action: 'down' }, options, async () => {
    await where.session.query(`DELETE FROM ${migrationsTable} WHERE created_at = $1`, [migration.when]);
  });

async function execute(
  where: Where,
  file: SqlFile,
  migration: Migration,
  subject: Subject,
  options: CommonOptions,
  record: () => Promise<void>,
): Promise<void> {
  const startedAt = new Date();
  const entry = { tag: migration.tag, action: subject.action, hash: migration.hash, startedAt };
  const { session } = where;
  const recordAll = async () => {
    await record();
    await clearProgress(session, migration.tag);
    await recordHistory(session, { ...entry, result: 'done' });
  };
  try {
    await applyFile(where, file, subject, recordAll, options);
  } catch (error) {
    const failed = { ...entry, result: 'failed', error: withoutValues(error, file) } as const;
    // Record failures too. This is not possible if the connection is lost.
    await resetSession(session)
      .then(() => recordHistory(session, failed))
      .catch(() => undefined);
    throw error;
  }
  options.onDone?.(migration, Date.now() - startedAt.getTime());
}

const insertRow = (session: Database, { hash, when }: Migration) =>
  session
    .query(`INSERT INTO ${migrationsTable} ("hash", "created_at") VALUES ($1, $2)`, [hash, when])
    .then(() => undefined);

const note = (session: Database, { tag, hash }: Pick<Migration, 'tag' | 'hash'>, action: MigrationAction) =>
  recordHistory(session, { tag, hash, action, startedAt: new Date(), result: 'done' });
