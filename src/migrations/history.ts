// History of migrations: who applied or took back what, when, from where, and how long it took.
import { hostname, userInfo } from 'node:os';
import type { DatabaseTarget } from '../databases.ts';
import type { Database } from '../pool.ts';
import { hasRelation } from '../sql/relations.ts';

const historyTable = '"drizzle"."migration_history"';
/** Progress of interrupted migrations that run without a transaction. Usually empty. */
export const progressTable = '"drizzle"."migration_progress"';

export const createHistoryTables = [
  `CREATE TABLE IF NOT EXISTS ${historyTable} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tag text NOT NULL,
    action text NOT NULL,
    hash text NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    result text NOT NULL,
    error text,
    database_user text NOT NULL DEFAULT session_user,
    os_user text NOT NULL,
    host text NOT NULL,
    application text NOT NULL DEFAULT current_setting('application_name')
  )`,
  `CREATE TABLE IF NOT EXISTS ${progressTable} (
    tag text NOT NULL,
    action text NOT NULL,
    done integer NOT NULL,
    done_hash text NOT NULL,
    started boolean NOT NULL,
    PRIMARY KEY (tag, action)
  )`,
  // Earlier versions stored PostgreSQL's message, which quotes row values. Keep only the second line, the position.
  `UPDATE ${historyTable} SET error = btrim(split_part(error, E'\\n', 2)) WHERE error LIKE 'Migration % failed %'`,
];

export type MigrationAction = 'up' | 'down' | 'mark' | 'unmark' | 'repair';

/** An action on one migration of one database. */
export interface Subject {
  readonly key: DatabaseTarget;
  readonly tag: string;
  readonly action: MigrationAction;
}

export interface HistoryEntry {
  readonly tag: string;
  readonly action: MigrationAction;
  readonly hash: string;
  readonly startedAt: Date;
  readonly durationMs: number;
  readonly result: 'done' | 'failed';
  readonly error: string | null;
  readonly databaseUser: string;
  readonly osUser: string;
  readonly host: string;
  readonly application: string;
}

type NewEntry = Pick<HistoryEntry, 'tag' | 'action' | 'hash' | 'startedAt' | 'result'> & { error?: string };

/** Writes an entry in the caller's transaction, so that it is committed or rolled back with the change. */
export async function recordHistory(db: Database, entry: NewEntry): Promise<void> {
  const { tag, action, hash, startedAt, result, error } = entry;
  await db.query(
    `INSERT INTO ${historyTable} (tag, action, hash, started_at, duration_ms, result, error, os_user, host)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [
      tag,
      action,
      hash,
      startedAt,
      Date.now() - startedAt.getTime(),
      result,
      error,
      operatingSystemUser(),
      hostname(),
    ],
  );
}

// A container may run under a user id that has no name.
function operatingSystemUser(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}

/** Deletes the stored progress of a migration. Call it when the migration is completely applied or taken back. */
export async function clearProgress(db: Database, tag: string): Promise<void> {
  await db.query(`DELETE FROM ${progressTable} WHERE tag = $1`, [tag]);
}

/** Returns the newest entry first. Empty if this package never ran a migration in the database. */
export async function readHistory(db: Database): Promise<HistoryEntry[]> {
  if (!(await hasRelation(db, historyTable))) return [];
  const entries = await db.primary.query<HistoryEntry>(
    `SELECT tag, action, hash, started_at AS "startedAt", duration_ms AS "durationMs", result, error,
       database_user AS "databaseUser", os_user AS "osUser", host, application
     FROM ${historyTable} ORDER BY id DESC`,
  );
  return entries.rows;
}
