// The pure core: whatever the files, the rows and their order, a plan never skips in silence and never applies twice.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Migration } from '../../src/migrations/journal.ts';
import {
  type AppliedRow,
  compareMigrations,
  isInStep,
  planDown,
  planUp,
} from '../../src/migrations/state.ts';

const file = (when: number, text: string): Migration => ({
  tag: `${String(when).padStart(4, '0')}_m`,
  when,
  hash: text,
  sameText: [text, `${text}-crlf`],
  path: '',
  sql: '',
  statements: [],
  inTransaction: true,
});

/** Files in any order, each with a text; rows that may match, differ, or belong to no file. */
const worlds = fc
  .record({
    whens: fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { maxLength: 10 }),
    rows: fc.uniqueArray(
      fc.record({ createdAt: fc.integer({ min: 1, max: 14 }), hash: fc.constantFrom('x', 'x-crlf', 'y') }),
      { selector: ({ createdAt }) => createdAt, maxLength: 10 },
    ),
    allowOutOfOrder: fc.boolean(),
    target: fc.option(fc.integer({ min: 1, max: 14 }), { nil: undefined }),
  })
  .map(({ whens, rows, allowOutOfOrder, target }) => ({
    files: whens.map((when) => file(when, 'x')),
    rows: rows as AppliedRow[],
    options: {
      allowOutOfOrder,
      to: target === undefined ? undefined : `${String(target).padStart(4, '0')}_m`,
    },
  }));

describe('every world', () => {
  test('each file is either applied or pending, each row either a file or an orphan', () => {
    fc.assert(
      fc.property(worlds, ({ files, rows }) => {
        const state = compareMigrations(files, rows);
        expect(state.applied.length + state.pending.length).toBe(files.length);
        expect(state.applied.length + state.orphaned.length).toBe(rows.length);
        expect(new Set([...state.applied, ...state.pending])).toEqual(new Set(files));
        for (const { migration, recordedHash } of state.edited)
          expect(migration.sameText).not.toContain(recordedHash);
      }),
    );
  });

  test("a plan holds only what is not applied, each once, in the journal's order", () => {
    fc.assert(
      fc.property(worlds, ({ files, rows, options }) => {
        const plan = planUp(compareMigrations(files, rows), options);
        if ('refused' in plan) return;
        const whens = plan.run.map(({ when }) => when);
        expect(plan.run).toEqual(files.filter((candidate) => whens.includes(candidate.when)));
        for (const when of whens) expect(rows.map(({ createdAt }) => createdAt)).not.toContain(when);
      }),
    );
  });

  test('a plan that runs leaves nothing due behind: what drizzle-kit would skip is applied or refused', () => {
    fc.assert(
      fc.property(worlds, ({ files, rows, options }) => {
        const state = compareMigrations(files, rows);
        const plan = planUp(state, options);
        if ('refused' in plan) return;
        const last =
          options.to === undefined ? files.length : files.findIndex(({ tag }) => tag === options.to);
        const due = files.filter((candidate, index) => index <= last && state.pending.includes(candidate));
        expect(plan.run).toEqual(due);
        const after = compareMigrations(files, [
          ...rows,
          ...plan.run.map(({ when, hash }) => ({ createdAt: when, hash })),
        ]);
        expect(planUp(after, options)).toEqual({ run: [] });
        if (options.to === undefined && state.orphaned.length === 0) expect(isInStep(after)).toBe(true);
      }),
    );
  });

  test('a refusal has its reason: something edited, out of order, or a target that does not exist', () => {
    fc.assert(
      fc.property(worlds, ({ files, rows, options }) => {
        const state = compareMigrations(files, rows);
        const plan = planUp(state, options);
        if (!('refused' in plan)) return;
        const { refused } = plan;
        if (refused.kind === 'edited') expect(state.edited.length).toBeGreaterThan(0);
        if (refused.kind === 'out-of-order') {
          expect(options.allowOutOfOrder).toBe(false);
          const latest = Math.max(...rows.map(({ createdAt }) => createdAt));
          for (const tag of 'tags' in refused ? refused.tags : [])
            expect(Number(tag.slice(0, 4))).toBeLessThan(latest);
        }
        if (refused.kind === 'unknown-target') expect(files.map(({ tag }) => tag)).not.toContain(options.to);
      }),
    );
  });

  test('up and then down of as many returns to the same rows', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 12 })), fc.nat(12), (whens, count) => {
        const files = whens.map((when) => file(when, 'x'));
        const upTo = planUp(compareMigrations(files, []));
        const run = 'run' in upTo ? upTo.run : [];
        const rows = run.map(({ when, hash }) => ({ createdAt: when, hash }));
        const down = planDown(compareMigrations(files, rows), { count });
        const taken = 'run' in down ? down.run : [];
        expect(taken.map(({ when }) => when)).toEqual(
          rows
            .map(({ createdAt }) => createdAt)
            .reverse()
            .slice(0, count),
        );
      }),
    );
  });
});
