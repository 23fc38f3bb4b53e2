// Runs work that Ctrl-C or the first failure aborts, and waits until the work has cleaned up.
import { type Progress, showProgress } from '../cli/progress.ts';
import { onSignal } from '../cli/signals.ts';
import { BackupError } from './errors.ts';

export interface Running {
  /** Aborts with a BackupError when a signal asks the process to end. */
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

export async function interruptible<Result>(
  what: string,
  work: (running: Running) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  // The listeners stay until the work has ended, so that a second Ctrl-C does not interrupt the clean-up.
  using _ = onSignal((signal) =>
    controller.abort(new BackupError(`${what} was interrupted by ${signal}: nothing of it was kept.`)),
  );
  using progress = showProgress();
  return await work({ signal: controller.signal, progress });
}

/**
 * Runs `work` for all items, `limit` at a time. The first failure aborts the others and is thrown when they have ended.
 * Not p-map, which throws at once: the caller would then remove files that the others still write.
 */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  limit: number,
  outer: AbortSignal,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
): Promise<Result[]> {
  const inner = new AbortController();
  const signal = AbortSignal.any([outer, inner.signal]);
  const results: Result[] = [];
  const queue = [...items.entries()];
  const runner = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      signal.throwIfAborted();
      const [index, item] = next;
      results[index] = await work(item, signal);
    }
  };
  const runners = Array.from({ length: Math.min(limit, items.length) }, () =>
    runner().catch((error: unknown) => {
      inner.abort(error);
    }),
  );
  await Promise.all(runners);
  signal.throwIfAborted();
  return results;
}
