// Compares a migrations folder with the applied migrations, and plans what to run. Reads no files and sends no queries.
import type { Migration } from './journal.ts';

/** A row of drizzle-kit's table. */
export interface AppliedRow {
  readonly hash: string;
  /** `when` of the migration in the journal. */
  readonly createdAt: number;
  /** Tag of a row without a file, if the history has it. */
  readonly tag?: string;
}

/** Name of a row without a file, in messages and as the argument of `migrate mark --undo`. */
export const nameOfRow = ({ tag, hash }: AppliedRow): string => tag ?? hash.slice(0, 12);

export interface MigrationState {
  /** All files in the journal's order. */
  readonly files: readonly Migration[];
  readonly applied: readonly Migration[];
  /** Not applied, in the journal's order. Includes `outOfOrder`. */
  readonly pending: readonly Migration[];
  /** Applied, but the file was changed afterwards. Other line endings do not count as an edit. */
  readonly edited: readonly { readonly migration: Migration; readonly recordedHash: string }[];
  /** Pending migrations that are older than the latest applied one. drizzle-kit would never apply them. */
  readonly outOfOrder: readonly Migration[];
  /** Recorded as applied, but there is no file. */
  readonly orphaned: readonly AppliedRow[];
  /** Problems of the migrations folder, as sentences. */
  readonly problems: readonly string[];
}

type Comparable = Pick<Migration, 'tag' | 'when' | 'sameText'>;

export function compareMigrations(
  files: readonly Migration[],
  rows: readonly AppliedRow[],
  problems: readonly string[] = [],
): MigrationState {
  const rowsByTime = new Map(rows.map((row) => [row.createdAt, row]));
  const times = new Set(files.map(({ when }) => when));
  // In the journal's order, as drizzle-kit applies them: after a merge, `when` may be out of order.
  const applied = files.filter(({ when }) => rowsByTime.has(when));
  const pending = files.filter(({ when }) => !rowsByTime.has(when));
  const latest = rows.reduce(
    (newest, { createdAt }) => Math.max(newest, createdAt),
    Number.NEGATIVE_INFINITY,
  );
  return {
    files,
    applied,
    pending,
    edited: applied.flatMap((migration) => {
      const recordedHash = rowsByTime.get(migration.when)?.hash ?? '';
      return isSameText(migration, recordedHash) ? [] : [{ migration, recordedHash }];
    }),
    outOfOrder: pending.filter(({ when }) => when < latest),
    orphaned: rows.filter(({ createdAt }) => !times.has(createdAt)),
    problems,
  };
}

const isSameText = ({ sameText }: Comparable, hash: string) => sameText.includes(hash);

export type Refusal =
  | { readonly kind: 'unsound'; readonly problems: readonly string[] }
  | { readonly kind: 'edited'; readonly tags: readonly string[] }
  | { readonly kind: 'out-of-order'; readonly tags: readonly string[] }
  | { readonly kind: 'empty'; readonly tags: readonly string[] }
  | { readonly kind: 'orphaned'; readonly tags: readonly string[] }
  | { readonly kind: 'unknown-target'; readonly tags: readonly string[] };

export type Plan = { readonly run: readonly Migration[] } | { readonly refused: Refusal };

/**
 * Plans `up`. Returns all migrations that are due, or the reason to run none. Never skips a migration silently.
 * @param to tag of the last migration to apply.
 */
export function planUp(
  state: MigrationState,
  { to, allowOutOfOrder = false }: { to?: string | undefined; allowOutOfOrder?: boolean | undefined } = {},
): Plan {
  if (state.problems.length > 0) return { refused: { kind: 'unsound', problems: state.problems } };
  if (state.edited.length > 0) {
    return { refused: { kind: 'edited', tags: state.edited.map(({ migration }) => migration.tag) } };
  }
  const last = to === undefined ? state.files.length : state.files.findIndex(({ tag }) => tag === to);
  if (to !== undefined && last < 0) return { refused: { kind: 'unknown-target', tags: [to] } };
  const run = state.pending.filter((migration) => state.files.indexOf(migration) <= last);
  const late = state.outOfOrder.filter((migration) => run.includes(migration));
  if (late.length > 0 && !allowOutOfOrder) {
    return { refused: { kind: 'out-of-order', tags: late.map(({ tag }) => tag) } };
  }
  return { run };
}

/**
 * Plans `down`, newest first.
 * @param to tag of the migration that stays the latest applied; without it, the last `count` are taken back.
 */
export function planDown(
  state: MigrationState,
  { to, count = 1 }: { to?: string | undefined; count?: number | undefined },
): Plan {
  if (state.problems.length > 0) return { refused: { kind: 'unsound', problems: state.problems } };
  const place = to === undefined ? -1 : state.applied.findIndex(({ tag }) => tag === to);
  if (to !== undefined && place < 0) return { refused: { kind: 'unknown-target', tags: [to] } };
  const taken = to === undefined ? state.applied.slice(-count) : state.applied.slice(place + 1);
  const run = count > 0 ? [...taken].reverse() : [];
  // A newer migration may depend on those of `run`. Without its file, it cannot be taken back before them.
  const newer = state.orphaned.some((row) => run.some(({ when }) => row.createdAt > when));
  return newer ? { refused: { kind: 'orphaned', tags: run.map(({ tag }) => tag) } } : { run };
}

/** Whether nothing is pending and nothing is wrong. */
export const isInStep = ({ pending, edited, orphaned, problems }: MigrationState): boolean =>
  pending.length + edited.length + orphaned.length + problems.length === 0;
