// What a terminal shows while databases are dumped and restored; a pipe stays quiet.
import { type Bar, MultiBar } from 'cli-progress';

export interface Progress {
  /** Says where a database is: `dumping, 12.3 MB`. */
  stage(database: string, text: string): void;
  [Symbol.dispose](): void;
}

/** One line for each database, on stderr. */
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
