// Applies pending migrations, one transaction each, under a lock, in drizzle-kit's own table.
import type postgres from 'postgres';
import type { DatabaseKey } from '../databases.ts';
import { MigrationError } from '../errors.ts';
import type { Pool } from '../pool.ts';
import { createMigrationsTable, type Migration, migrationsTable, readMigrations } from './journal.ts';
import { type AppliedRow, compareMigrations, type MigrationState } from './state.ts';

export interface MigrateOptions {
  /** Called after each migration, with what it took in milliseconds. */
  onApplied?: (migration: Migration, milliseconds: number) => void;
  /** Another folder than the package's own. */
  folder?: string;
}

// Any fixed number: it only has to differ from what other programs lock in the same database.
const lockId = 7_218_340_911;

/**
 * Applies what is pending, in order. Several processes may call it at once: they take turns.
 * @returns the migrations that this call applied.
 * @throws MigrationError naming file, line and PostgreSQL's message. The failed migration leaves
 * nothing of itself; the earlier ones stay.
 */
export async function migrate(
  db: Pool,
  key: DatabaseKey,
  options: MigrateOptions = {},
): Promise<readonly Migration[]> {
  const files = readMigrations(key, options.folder);
  // One connection for all: a session lock and the transactions must share it.
  const connection = await db.sql.reserve();
  try {
    await connection`SELECT pg_advisory_lock(${lockId})`;
    for (const statement of createMigrationsTable) await connection.unsafe(statement);
    const { pending } = compareMigrations(files, await readApplied(connection));
    for (const migration of pending) {
      const start = performance.now();
      await applyMigration(connection, migration, key);
      options.onApplied?.(migration, performance.now() - start);
    }
    return pending;
  } finally {
    await connection`SELECT pg_advisory_unlock(${lockId})`.catch(() => undefined);
    connection.release();
  }
}

/** What is applied and what is pending. Changes nothing, not even the table of migrations. */
export async function getMigrationStatus(
  db: Pool,
  key: DatabaseKey,
  folder?: string,
): Promise<MigrationState> {
  const files = readMigrations(key, folder);
  const { rows } = await db.query<{ exists: boolean }>('SELECT to_regclass($1) IS NOT NULL AS exists', [
    migrationsTable,
  ]);
  return compareMigrations(files, rows[0]?.exists ? await readApplied(db.sql) : []);
}

async function readApplied(sql: postgres.Sql): Promise<AppliedRow[]> {
  const rows = await sql.unsafe(`SELECT hash, created_at FROM ${migrationsTable} ORDER BY id`);
  return rows.map((row) => ({ hash: String(row.hash), createdAt: Number(row.created_at) }));
}

async function applyMigration(
  connection: postgres.ReservedSql,
  migration: Migration,
  key: DatabaseKey,
): Promise<void> {
  await connection.unsafe('BEGIN');
  try {
    for (const statement of migration.statements) {
      try {
        await connection.unsafe(statement.text);
      } catch (error) {
        throw describeFailure(error, migration, statement.offset, key);
      }
    }
    await connection.unsafe(`INSERT INTO ${migrationsTable} ("hash", "created_at") VALUES ($1, $2)`, [
      migration.hash,
      migration.when,
    ]);
    await connection.unsafe('COMMIT');
  } catch (error) {
    await connection.unsafe('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

function describeFailure(
  error: unknown,
  migration: Migration,
  offset: number,
  key: DatabaseKey,
): MigrationError {
  const { message, position } = error as { message: string; position?: string };
  const start = position
    ? offset + Number(position) - 1
    : offset + firstCharacter(migration.sql.slice(offset));
  const line = migration.sql.slice(0, start).split('\n').length;
  return new MigrationError(
    `Migration ${migration.tag} of ${key} failed and left nothing behind: ${message} (${migration.path}:${line}).`,
    { database: key, migration: migration.tag, cause: error },
  );
}

const firstCharacter = (text: string) => text.length - text.trimStart().length;
