// Converts the intervals of the policies to milliseconds, so that JavaScript can calculate with them.

const units = { minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const;

type Unit = keyof typeof units;
/** An interval in units of fixed length, unlike months and years. */
type FixedInterval = `${number} ${Unit}` | `${number} ${Unit}s`;

export function milliseconds(interval: FixedInterval): number {
  const [count, unit] = interval.split(' ');
  return Number(count) * units[unit?.replace(/s$/, '') as Unit];
}
