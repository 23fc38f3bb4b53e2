// Runs one file of SQL, up or down: whole in a transaction, or statement by statement where it says so.
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseKey } from '../databases.ts';
import { MigrationError, OutOfStepError, sqlState } from '../errors.ts';
import type { Database, Pool } from '../pool.ts';
import { watchBlockers } from './blockers.ts';
import { type MigrationAction, progressTable } from './history.ts';
import { interruptedIndex, invalidIndexAdvice } from './invalid-index.ts';
import type { SqlFile, Statement } from './journal.ts';
import { assertLocked } from './session.ts';
import { describeSqlError } from './sql-error.ts';

export interface TimeoutOptions {
  /** How long one statement waits for a lock, in milliseconds. Default 5,000; 0 waits for ever. */
  lockTimeoutMs?: number | undefined;
  /** How long one statement may take, in milliseconds. Default 0: as long as it needs. */
  statementTimeoutMs?: number | undefined;
  /** How often a migration that could not get a lock is tried again. Default 5. */
  lockRetries?: number | undefined;
  /** Called before each of these attempts, with the session that blocks where one was seen. */
  onBlocked?: ((blocker: string | undefined, attempt: number) => void) | undefined;
}

export interface Subject {
  readonly key: DatabaseKey;
  readonly tag: string;
  readonly action: MigrationAction;
}

/**
 * @param pool where the blocking session is looked up, while `session` is the one that is blocked.
 * @param record what must be written together with the last statement.
 */
export async function applyFile(
  { pool, session }: { pool: Pool; session: Database },
  file: SqlFile,
  subject: Subject,
  record: () => Promise<void>,
  options: TimeoutOptions,
): Promise<void> {
  const attempts = (options.lockRetries ?? 5) + 1;
  for (let attempt = 1; ; attempt += 1) {
    const blockers = await watchBlockers(pool, session);
    try {
      return await (file.inTransaction
        ? applyWhole(session, file, subject, record, options)
        : applyByStatement(session, file, subject, record, options));
    } catch (error) {
      const blocker = blockers.last();
      // 55P03 lock_not_available: our lock_timeout.
      if (sqlState(error) !== '55P03') throw error;
      if (attempt >= attempts) throw blocked(error, subject, blocker, attempt);
      options.onBlocked?.(blocker, attempt);
    } finally {
      blockers.stop();
    }
    await sleep((0.5 + Math.random()) * 200 * 2 ** attempt);
  }
}

function blocked(error: unknown, { key, tag }: Subject, blocker: string | undefined, attempts: number) {
  const who = blocker ?? 'a session that is gone now';
  return new MigrationError(
    `Migration ${tag} of ${key} could not get a lock in ${attempts} attempts and left nothing behind: it is blocked by ${who}. ` +
      'End that session (SELECT pg_terminate_backend(pid)) or wait for it, then run the command again.',
    { database: key, migration: tag, cause: error },
  );
}

async function begin(session: Database, { lockTimeoutMs = 5000, statementTimeoutMs = 0 }: TimeoutOptions) {
  await session.query(
    `BEGIN; SET LOCAL lock_timeout = ${Number(lockTimeoutMs)}; SET LOCAL statement_timeout = ${Number(statementTimeoutMs)}`,
  );
}

const rollback = (session: Database) => session.query('ROLLBACK').catch(() => undefined);

async function applyWhole(
  session: Database,
  file: SqlFile,
  subject: Subject,
  record: () => Promise<void>,
  options: TimeoutOptions,
): Promise<void> {
  try {
    await begin(session, options);
    await assertLocked(session);
    for (const statement of file.statements) {
      await session.sql.unsafe(statement.text).catch((error: unknown) => {
        throw describeSqlError(error, file, statement, { ...subject, afterwards: 'left nothing behind' });
      });
    }
    await record();
    await session.query('COMMIT');
  } catch (error) {
    await rollback(session);
    throw error;
  }
}

interface Progress {
  done: number;
  done_hash: string;
  started: boolean;
}

async function applyByStatement(
  session: Database,
  file: SqlFile,
  subject: Subject,
  record: () => Promise<void>,
  options: TimeoutOptions,
): Promise<void> {
  const progress = await readProgress(session, file, subject);
  for (const [index, statement] of file.statements.entries()) {
    if (index < progress.done) continue;
    const interrupted = progress.started && index === progress.done;
    const fail = (error: unknown, advice?: string) => {
      throw describeSqlError(error, file, statement, {
        ...subject,
        afterwards: `stopped at statement ${index + 1} of ${file.statements.length}, where the next run resumes`,
        advice,
      });
    };
    if (interrupted && (await interruptedIndex(session, statement.text)) === 'complete') {
      await saveProgress(session, file, subject, index + 1, false);
      continue;
    }
    await runStatement(session, file, subject, index, statement, options).catch(async (error: unknown) =>
      fail(error, await invalidIndexAdvice(session, statement.text)),
    );
  }
  await begin(session, options);
  try {
    await assertLocked(session);
    await record();
    await session.query(`DELETE FROM ${progressTable} WHERE tag = $1 AND action = $2`, [
      subject.tag,
      subject.action,
    ]);
    await session.query('COMMIT');
  } catch (error) {
    await rollback(session);
    throw error;
  }
}

// Most statements can share a transaction with their progress, and then a crash cannot come between
// the two. Only what PostgreSQL refuses there runs bare, marked as started before.
async function runStatement(
  session: Database,
  file: SqlFile,
  subject: Subject,
  index: number,
  statement: Statement,
  options: TimeoutOptions,
): Promise<void> {
  await assertLocked(session);
  await begin(session, options);
  try {
    await session.sql.unsafe(statement.text);
    await saveProgress(session, file, subject, index + 1, false);
    await session.query('COMMIT');
    return;
  } catch (error) {
    await rollback(session);
    // 25001 active_sql_transaction, 2D000 invalid_transaction_termination: a CALL that commits.
    if (!['25001', '2D000'].includes(sqlState(error) ?? '')) throw error;
  }
  const { lockTimeoutMs = 5000, statementTimeoutMs = 0 } = options;
  await saveProgress(session, file, subject, index, true);
  await session.query(
    `SET lock_timeout = ${Number(lockTimeoutMs)}; SET statement_timeout = ${Number(statementTimeoutMs)}`,
  );
  try {
    await session.sql.unsafe(statement.text);
  } finally {
    await session.query('RESET lock_timeout; RESET statement_timeout').catch(() => undefined);
  }
  await saveProgress(session, file, subject, index + 1, false);
}

const hashUpTo = (file: SqlFile, count: number): string =>
  createHash('sha256')
    .update(
      file.statements
        .slice(0, count)
        .map(({ text }) => text.replaceAll('\r\n', '\n'))
        .join('\0'),
    )
    .digest('hex');

async function readProgress(
  session: Database,
  file: SqlFile,
  { key, tag, action }: Subject,
): Promise<Progress> {
  const { rows } = await session.query<Progress>(
    `SELECT done, done_hash, started FROM ${progressTable} WHERE tag = $1 AND action = $2`,
    [tag, action],
  );
  const progress = rows[0] ?? { done: 0, done_hash: hashUpTo(file, 0), started: false };
  if (progress.done_hash === hashUpTo(file, progress.done)) return progress;
  throw new OutOfStepError(
    `${file.path} was edited in one of the ${progress.done} statements that ran before it stopped: restore those, the rest may change.`,
    { database: key, migration: tag },
  );
}

async function saveProgress(
  session: Database,
  file: SqlFile,
  { tag, action }: Subject,
  done: number,
  started: boolean,
): Promise<void> {
  await session.query(
    `INSERT INTO ${progressTable} (tag, action, done, done_hash, started) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (tag, action) DO UPDATE SET done = EXCLUDED.done, done_hash = EXCLUDED.done_hash, started = EXCLUDED.started`,
    [tag, action, done, hashUpTo(file, done), started],
  );
}
