// Work on several databases that Ctrl-C or the first failure ends, after it has cleaned up.
import { onSignal } from '../cli/signals.ts';
import { BackupError } from './errors.ts';

/** Runs `work`; its signal aborts with a BackupError when the process is told to end. */
export async function interruptible<Result>(
  what: string,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  // A second Ctrl-C must not cut the cleaning short: the listeners stay until the work has ended.
  using _ = onSignal((signal) =>
    controller.abort(new BackupError(`${what} was interrupted by ${signal}: nothing of it was kept.`)),
  );
  return await work(controller.signal);
}

/**
 * Runs `work` for all items, `limit` at a time. The first failure aborts the others and is thrown when they have ended.
 * Not p-map, which throws at once: what they write would be removed under them.
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
