// Shows progress on stderr, but only if stderr is a terminal.
import { type Bar, MultiBar, SingleBar } from 'cli-progress';

/**
 * Starts a bar that stops when it is disposed.
 * @param isLasting whether its last state stays on the terminal.
 */
export function startBar(
  format: string,
  total: number,
  payload: object = {},
  { isLasting = true } = {},
): SingleBar & Disposable {
  const bar = new SingleBar({
    format,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: !isLasting,
  });
  bar.start(total, 0, payload);
  return Object.assign(bar, { [Symbol.dispose]: () => bar.stop() });
}

export interface Progress {
  /** Shows what is being done with a database, such as `dumping, 12.3 MB`. */
  stage(database: string, text: string): void;
  [Symbol.dispose](): void;
}

/** Shows one line of progress for each database, until the result is disposed. */
export function showProgress(): Progress {
  const bars = new MultiBar({
    format: '{database}  {text}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    emptyOnZero: true,
  });
  const lines = new Map<string, Bar>();
  return {
    stage(database, text) {
      const payload = { database: database.padEnd(8), text };
      const line = lines.get(database) ?? bars.create(1, 0, payload);
      lines.set(database, line);
      line?.update(0, payload);
    },
    [Symbol.dispose]: () => bars.stop(),
  };
}
