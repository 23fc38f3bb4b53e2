// Databases that a bench fills and leaves nothing of.
import { randomBytes } from 'node:crypto';
import type { DatabaseKey } from '../../src/databases.ts';
import { withScratchDatabase } from '../cli/pools.ts';

export interface Scratch {
  readonly key: DatabaseKey;
  readonly url: string;
}

/** A name that tells what was measured, should a bench be killed. */
export const scratchName = (what: string): string => `atriz_bench_${what}_${randomBytes(4).toString('hex')}`;

/** Runs `work` with a new database for each key; all are dropped afterwards whatever happens. */
export async function withScratchDatabases<Result>(
  keys: readonly DatabaseKey[],
  work: (scratch: readonly Scratch[]) => Promise<Result>,
  made: readonly Scratch[] = [],
): Promise<Result> {
  const [key, ...rest] = keys;
  if (key === undefined) return work(made);
  return withScratchDatabase(key, scratchName(key), (_, url) =>
    withScratchDatabases(rest, work, [...made, { key, url }]),
  );
}
