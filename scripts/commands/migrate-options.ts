// Options and progress messages that migrate up, down and redo have in common.
import type { Command } from 'commander';
import type { DatabaseTarget } from '../../src/databases.ts';
import { wholeNumber } from '../cli/arguments.ts';

export interface RunOptions {
  wait?: number;
  lockTimeout?: number;
  lockRetries?: number;
  statementTimeout?: number;
  json?: boolean;
}

export function addRunOptions(command: Command): Command {
  return command
    .option('--wait <seconds>', 'how long to wait for another migrator (default: 60)', wholeNumber)
    .option('--lock-timeout <ms>', 'how long a statement waits for a lock (default: 5000)', wholeNumber)
    .option('--lock-retries <count>', 'how often to try again without the lock (default: 5)', wholeNumber)
    .option('--statement-timeout <ms>', 'how long a statement may take (default: 0, unlimited)', wholeNumber)
    .option('--json', 'print JSON');
}

/** Converts options of the command line to options of the library, which print progress unless `json` is set. */
export function libraryOptions(key: DatabaseTarget, verb: string, options: RunOptions) {
  const tell = (text: string) => {
    if (!options.json) console.log(`${key.padEnd(8)}  ${text}`);
  };
  return {
    waitMs: options.wait === undefined ? undefined : options.wait * 1000,
    lockTimeoutMs: options.lockTimeout,
    lockRetries: options.lockRetries,
    statementTimeoutMs: options.statementTimeout,
    onWait: (holder: string) => tell(`waits for ${holder}`),
    onBlocked: (blocker: string | undefined, attempt: number) =>
      tell(`is blocked by ${blocker ?? 'another session'}, attempt ${attempt}`),
    onDone: ({ tag }: { tag: string }, milliseconds: number) =>
      tell(`${tag}  ${verb} in ${Math.round(milliseconds)} ms`),
    tell,
  };
}
