// Helpers for the benchmarks: measure wall time, compute medians, and read numbers from the server.
import { availableParallelism, loadavg } from 'node:os';
import type { Pool } from '../../src/pool.ts';

/** Returns e.g. `2 cores, Node.js 22.1.0.`, and adds a warning if the machine is busy, because ratios then vary. */
export function describeMachine(): string {
  const cores = availableParallelism();
  const [load = 0] = loadavg();
  const busy = load > cores / 2 ? ` The machine is busy: its load is ${load.toFixed(1)}.` : '';
  return `${cores} cores, Node.js ${process.versions.node}.${busy}`;
}

/** Runs `work`. @returns the wall time in milliseconds. */
export async function timed(work: () => PromiseLike<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]];
  return ((middle[0] ?? Number.NaN) + (middle[1] ?? Number.NaN)) / 2;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export const spreadOf = (values: readonly number[]): Spread => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values),
});

/** Runs a query. @returns the number in the first column of the first row. */
export async function queryNumber(
  pool: Pool,
  text: string,
  parameters: readonly unknown[] = [],
): Promise<number> {
  const { rows } = await pool.query(text, parameters);
  return Number(Object.values(rows[0] ?? {})[0]);
}

export interface Measure {
  what: string;
  /** Rows per second, or milliseconds. */
  value: number;
  /** Least and greatest value of the runs. */
  range?: readonly [number, number];
  unit: 'rows/s' | 'ms';
  /** How many times as fast as the peer in `against`. */
  ratio: number;
  /** The lowest and the highest ratio of the rounds. */
  ratioRange?: readonly [number, number];
  against: string;
}
