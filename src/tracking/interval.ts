// The intervals of the policies in milliseconds, for decisions that are made before the server is asked.

const units = { minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const;

type Unit = keyof typeof units;
/** Of units with a fixed length: a month or a year has none. */
export type FixedInterval = `${number} ${Unit}` | `${number} ${Unit}s`;

export function milliseconds(interval: FixedInterval): number {
  const [count, unit] = interval.split(' ');
  return Number(count) * units[unit?.replace(/s$/, '') as Unit];
}
