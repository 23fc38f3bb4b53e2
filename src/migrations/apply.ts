// Runs one SQL file, up or down: in one transaction, or statement by statement with `-- transaction: none`.
import { setTimeout as sleep } from 'node:timers/promises';
import { MigrationError, sqlState } from '../errors.ts';
import type { Database, Pool } from '../pool.ts';
import { watchBlockers } from './blockers.ts';
import type { Subject } from './history.ts';
import { interruptedIndex, invalidIndexAdvice } from './invalid-index.ts';
import type { SqlFile, Statement } from './journal.ts';
import { readProgress, saveProgress } from './progress.ts';
import { assertLocked, inTransaction, prepareSession, type SessionTimeouts } from './session.ts';
import { describeSqlError } from './sql-error.ts';
import { runAlone, runInside } from './transaction-guard.ts';

export interface ApplyOptions extends SessionTimeouts {
  /** How many times to retry a migration that could not get a lock. Default 5. */
  lockRetries?: number | undefined;
  /** Called before each retry with the blocking session, if one was found, and the number of failed attempts. */
  onBlocked?: ((blocker: string | undefined, attempt: number) => void) | undefined;
  /** @internal For rehearsals. */
  observe?: ObserveStatement | undefined;
}

/** Must call `run`, which runs the statement. May query the session before and after. */
export type ObserveStatement = (
  run: () => Promise<void>,
  about: { session: Database; statement: Statement; isInTransaction: boolean },
) => Promise<void>;

/** One run of a file. `record` saves the result in the file's transaction, or after its last statement. */
interface Run {
  readonly session: Database;
  readonly file: SqlFile;
  readonly subject: Subject;
  readonly record: () => Promise<void>;
  readonly observe: ObserveStatement;
}

/**
 * Runs a file, and retries it if it could not get a lock.
 * @param pool finds the session that blocks `session`.
 * @param record saves the result, in the file's transaction or after its last statement.
 */
export async function applyFile(
  { pool, session }: { pool: Pool; session: Database },
  file: SqlFile,
  subject: Subject,
  record: () => Promise<void>,
  options: ApplyOptions,
): Promise<void> {
  const { lockRetries = 5, onBlocked, observe = (run) => run(), ...timeouts } = options;
  const run: Run = { session, file, subject, record: () => asOurselves(session, record), observe };
  await prepareSession(session, timeouts);
  const blockers = await watchBlockers(pool, session, timeouts.lockTimeoutMs || 2000);
  try {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await (file.inTransaction ? applyWhole(run) : applyByStatement(run));
      } catch (error) {
        // 55P03 lock_not_available: lock_timeout expired.
        if (sqlState(error) !== '55P03') throw error;
        if (attempt > lockRetries) throw blocked(error, subject, blockers.last(), attempt);
        onBlocked?.(blockers.last(), attempt);
      }
      await sleep((0.5 + Math.random()) * Math.min(200 * 2 ** attempt, 10_000));
    }
  } finally {
    blockers.stop();
  }
}

/** @param cause the error of the last attempt. Its message says what the attempt left behind. */
function blocked(cause: unknown, { key, tag }: Subject, blocker: string | undefined, attempts: number) {
  const who = blocker ?? 'a session that was not seen (the role may lack pg_read_all_stats)';
  return new MigrationError(
    `Migration ${tag} of ${key} could not get a lock in ${attempts} attempts: it is blocked by ${who}. ` +
      'End that session (SELECT pg_terminate_backend(pid)) or wait for it, then run the command again.\n' +
      (cause as Error).message,
    { database: key, migration: tag, cause },
  );
}

/** Runs `record` as the role that logged in, because the file may have set a role that may not write the record. */
async function asOurselves(session: Database, record: () => Promise<void>): Promise<void> {
  await session.query('SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE NONE');
  await record();
}

async function applyWhole(run: Run): Promise<void> {
  const { session, file, subject, record, observe } = run;
  let step = 'BEGIN';
  try {
    await inTransaction(session, async () => {
      step = 'record';
      await assertLocked(session);
      for (const statement of file.statements) {
        const runIt = () =>
          runInside(session, statement.text).catch((error: unknown) => {
            const advice = refusesTransaction(error)
              ? 'It belongs in a migration of its own, whose first line is "-- transaction: none".'
              : undefined;
            throw describeSqlError(error, file, statement, {
              ...subject,
              afterwards: 'left nothing behind',
              advice,
            });
          });
        await observe(runIt, { session, statement, isInTransaction: true });
      }
      await record();
      step = 'COMMIT';
    });
  } catch (error) {
    if (error instanceof MigrationError) throw error;
    // Usually COMMIT failed: a deferred constraint or trigger, or a connection that was lost before the answer.
    const { message } = error as Error;
    throw new MigrationError(
      `Migration ${subject.tag} of ${subject.key} failed at its ${step}: ${message}\n  at ${file.path}`,
      { database: subject.key, migration: subject.tag, cause: error },
    );
  }
}

async function applyByStatement(run: Run): Promise<void> {
  const { session, file, subject } = run;
  const progress = await readProgress(session, file, subject);
  for (const [index, statement] of file.statements.entries()) {
    if (index < progress.done) continue;
    const interrupted = progress.started && index === progress.done;
    try {
      if (interrupted && (await interruptedIndex(session, statement.text)) === 'complete') {
        await noteProgress(run, index + 1, false);
        continue;
      }
      await runStatement(run, index, statement);
    } catch (error) {
      if (error instanceof MigrationError) throw error;
      throw describeSqlError(error, file, statement, {
        ...subject,
        afterwards: `stopped at statement ${index + 1} of ${file.statements.length}, where the next run resumes`,
        advice: await advise(run, index, statement, error),
      });
    }
  }
  await inTransaction(session, async () => {
    await assertLocked(session);
    await run.record();
  });
}

// Most statements run in a transaction that also saves the progress, so that a crash undoes both or neither. If
// PostgreSQL refuses a statement there, the statement is marked as started and then runs without a transaction.
async function runStatement(run: Run, index: number, statement: Statement): Promise<void> {
  const { session, file, subject, observe } = run;
  let refused: unknown;
  await assertLocked(session);
  try {
    await inTransaction(session, async () => {
      const runIt = () => runInside(session, statement.text);
      await observe(runIt, { session, statement, isInTransaction: true });
      await asOurselves(session, () => saveProgress(session, file, subject, index + 1, false));
    });
    return;
  } catch (error) {
    if (!refusesTransaction(error)) throw error;
    refused = error;
  }
  await noteProgress(run, index, true);
  const runIt = () =>
    runAlone(session, statement.text).catch((error: unknown) => {
      // 42601 syntax_error: the text has several statements. `refused` names the one that needs to run alone.
      throw sqlState(error) === '42601' ? refused : error;
    });
  await observe(runIt, { session, statement, isInTransaction: false });
  await noteProgress(run, index + 1, false);
}

/** 25001 active_sql_transaction, or 2D000 invalid_transaction_termination, which a CALL that commits causes. */
const refusesTransaction = (error: unknown) => ['25001', '2D000'].includes(sqlState(error) ?? '');

const noteProgress = ({ session, file, subject }: Run, done: number, started: boolean) =>
  inTransaction(session, () =>
    asOurselves(session, () => saveProgress(session, file, subject, done, started)),
  );

/** Returns advice on a failed statement. If the statement left no invalid index, also clears its `started` mark. */
async function advise(
  run: Run,
  index: number,
  { text }: Statement,
  error: unknown,
): Promise<string | undefined> {
  const { session } = run;
  if (refusesTransaction(error))
    return 'One statement between two "--> statement-breakpoint" can run outside of a transaction.';
  try {
    const advice = await invalidIndexAdvice(session, text);
    // The server answered, so the statement has ended. A valid index with its name comes from another statement.
    if (advice === undefined) await noteProgress(run, index, false);
    return advice;
  } catch {
    // The connection is lost: the next run checks what the statement did.
    return undefined;
  }
}
