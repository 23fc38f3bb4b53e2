// Compares a migrations folder with what a database recorded. Pure: no file, no query.
import type { Migration } from './journal.ts';

/** A row of drizzle-kit's table. */
export interface AppliedRow {
  readonly hash: string;
  readonly createdAt: number;
}

export interface MigrationState {
  readonly applied: readonly Migration[];
  readonly pending: readonly Migration[];
  /** Applied, but the file says something else now. */
  readonly edited: readonly Migration[];
  /** Applied, but no file belongs to it. */
  readonly orphaned: readonly AppliedRow[];
}

export function compareMigrations(files: readonly Migration[], rows: readonly AppliedRow[]): MigrationState {
  const rowsByTime = new Map(rows.map((row) => [row.createdAt, row]));
  const times = new Set(files.map((file) => file.when));
  const applied = files.filter((file) => rowsByTime.has(file.when));
  return {
    applied,
    pending: files.filter((file) => !rowsByTime.has(file.when)),
    edited: applied.filter((file) => rowsByTime.get(file.when)?.hash !== file.hash),
    orphaned: rows.filter((row) => !times.has(row.createdAt)),
  };
}
