// Stores the progress of a migration that runs without a transaction.
import { createHash } from 'node:crypto';
import { OutOfStepError } from '../errors.ts';
import type { Database } from '../pool.ts';
import { progressTable, type Subject } from './history.ts';
import type { SqlFile } from './journal.ts';

export interface Progress {
  /** Number of completed statements. */
  readonly done: number;
  /** Whether the next statement was started, but no result was recorded: it may or may not have completed. */
  readonly started: boolean;
}

/** @throws OutOfStepError if a statement that already ran was edited. */
export async function readProgress(
  session: Database,
  file: SqlFile,
  { key, tag, action }: Subject,
): Promise<Progress> {
  const { rows } = await session.query<Progress & { done_hash: string }>(
    `SELECT done, done_hash, started FROM ${progressTable} WHERE tag = $1 AND action = $2`,
    [tag, action],
  );
  const [progress] = rows;
  if (!progress) return { done: 0, started: false };
  if (progress.done_hash === hashUpTo(file, progress.done)) return progress;
  throw new OutOfStepError(
    `${file.path} was edited in one of the ${progress.done} statements that ran before it stopped: restore those, the rest may change.`,
    { database: key, migration: tag },
  );
}

export async function saveProgress(
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

const hashUpTo = (file: SqlFile, count: number): string =>
  createHash('sha256')
    .update(
      file.statements
        .slice(0, count)
        .map(({ text }) => text.replaceAll('\r\n', '\n'))
        .join('\0'),
    )
    .digest('hex');
