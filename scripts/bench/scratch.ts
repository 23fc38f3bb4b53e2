// Scratch databases for the benchmarks.
import { randomBytes } from 'node:crypto';
import type { DatabaseKey } from '../../src/databases.ts';
import { withScratchDatabase } from '../cli/pools.ts';

export interface Scratch {
  readonly key: DatabaseKey;
  readonly url: string;
}

/** The name shows which benchmark created the database, in case it is killed and leaves it behind. */
export const scratchName = (what: string): string => `atriz_bench_${what}_${randomBytes(4).toString('hex')}`;

/** Runs `work` with a new database for each key; always drops them afterwards. */
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
