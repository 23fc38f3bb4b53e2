// Selects the backups that --keep-daily and --keep-weekly do not keep. Pure: no file is touched.
import type { Backup } from './backups.ts';

export interface Retention {
  /** For how many days (UTC) the newest backup is kept. Days without a backup do not count. */
  readonly daily: number;
  /** For how many weeks (from Monday, UTC) the newest backup is kept. Weeks without a backup do not count. */
  readonly weekly: number;
}

/**
 * Returns the backups to remove. Each database is counted separately, and so are its backups without rows: a daily
 * backup without tracking must not replace a weekly backup with tracking. The newest backup of each is always kept.
 */
export function outdated<B extends Pick<Backup, 'manifest'>>(
  backups: readonly B[],
  { daily, weekly }: Retention,
): B[] {
  const kept = new Set<B>();
  for (const what of new Set(backups.flatMap(subjects))) {
    const having = backups.filter((backup) => subjects(backup).includes(what)).sort(newestFirst);
    for (const backup of having.slice(0, 1)) kept.add(backup);
    for (const backup of newestOfEach(having, dayOf).slice(0, daily)) kept.add(backup);
    for (const backup of newestOfEach(having, weekOf).slice(0, weekly)) kept.add(backup);
  }
  return backups.filter((backup) => !kept.has(backup));
}

const subjects = ({ manifest }: Pick<Backup, 'manifest'>): string[] =>
  manifest.databases.map(({ key, database, holds }) => `${key} ${database} ${holds}`);

const timeOf = ({ manifest }: Pick<Backup, 'manifest'>): number => Date.parse(manifest.startedAt);
const newestFirst = (one: Pick<Backup, 'manifest'>, other: Pick<Backup, 'manifest'>) =>
  timeOf(other) - timeOf(one);

function newestOfEach<B>(sorted: readonly B[], period: (backup: B) => number): B[] {
  return sorted.filter((backup, index) => {
    const before = sorted[index - 1];
    return before === undefined || period(before) !== period(backup);
  });
}

const day = 24 * 3600 * 1000;
const dayOf = (backup: Pick<Backup, 'manifest'>): number => Math.floor(timeOf(backup) / day);
// Day 0 of the epoch was a Thursday.
const weekOf = (backup: Pick<Backup, 'manifest'>): number => Math.floor((dayOf(backup) + 3) / 7);
