// What --keep-daily and --keep-weekly let go.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DatabaseBackup, Manifest } from '../../../scripts/backup/library/manifest.ts';
import { outdated } from '../../../scripts/backup/library/retention.ts';

const backup = (startedAt: string, keys: readonly string[] = ['core'], holds = 'everything') => ({
  manifest: {
    startedAt,
    databases: keys.map((key) => ({ key, database: key, holds }) as DatabaseBackup),
  } as unknown as Manifest,
});
type Dated = ReturnType<typeof backup>;
const times = (backups: readonly Dated[]) => backups.map(({ manifest }) => manifest.startedAt.slice(0, 13));

describe('outdated', () => {
  // 2026-01-05 is a Monday.
  const all = [
    backup('2026-01-04T02:00:00Z'),
    backup('2026-01-05T02:00:00Z'),
    backup('2026-01-06T02:00:00Z'),
    backup('2026-01-07T02:00:00Z'),
    backup('2026-01-07T14:00:00Z'),
  ];

  test('keeps the newest of each of the last days', () => {
    expect(times(outdated(all, { daily: 2, weekly: 0 }))).toEqual([
      '2026-01-04T02',
      '2026-01-05T02',
      '2026-01-07T02',
    ]);
  });

  test('keeps the newest of each of the last weeks, which begin on Monday', () => {
    expect(times(outdated(all, { daily: 0, weekly: 2 }))).toEqual([
      '2026-01-05T02',
      '2026-01-06T02',
      '2026-01-07T02',
    ]);
  });

  test('never takes the last backup that holds a database, or its rows', () => {
    const weekly = backup('2026-01-01T02:00:00Z', ['core', 'tracking']);
    const structure = backup('2026-01-03T02:00:00Z', ['core', 'tracking'], 'structure');
    expect(times(outdated([weekly, structure, ...all], { daily: 1, weekly: 0 }))).toEqual(
      times(all.slice(0, -1)),
    );
  });

  test('never takes the newest, nor more than asked, and is stable', () => {
    const arbitrary = fc.array(
      fc.date({ min: new Date('2026-01-01'), max: new Date('2026-03-01'), noInvalidDate: true }),
      { maxLength: 40 },
    );
    const counts = fc.record({ daily: fc.nat(9), weekly: fc.nat(9) });
    fc.assert(
      fc.property(arbitrary, counts, (dates, retention) => {
        const backups = dates.map((date) => backup(date.toISOString()));
        const gone = outdated(backups, retention);
        const kept = backups.filter((one) => !gone.includes(one));
        const newest = backups.toSorted((one, other) =>
          other.manifest.startedAt.localeCompare(one.manifest.startedAt),
        );
        if (backups.length > 0) expect(kept).toContain(newest[0]);
        expect(kept.length).toBeLessThanOrEqual(Math.max(1, retention.daily + retention.weekly));
        expect(outdated(kept, retention)).toEqual([]);
      }),
    );
  });
});
