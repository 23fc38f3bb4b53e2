// How the benches measure: wall time, and the median of several runs.

/** Milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export interface Measure {
  what: string;
  /** Rows per second, or milliseconds. */
  value: number;
  unit: 'rows/s' | 'ms';
  /** Against the peer that `against` names: above 1 is better. */
  ratio: number;
  against: string;
}
