// Reads a migrations folder. All knowledge of drizzle-kit's layout stands in this file.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseKey } from '../databases.ts';
import { MigrationError } from '../errors.ts';
import { packageRoot } from '../package-root.ts';

/** The table in which drizzle-kit records what it applied, and we do too. */
export const migrationsTable = '"drizzle"."__drizzle_migrations"';

/** Exactly what drizzle-orm's migrator runs, so that either may come first. */
export const createMigrationsTable = [
  'CREATE SCHEMA IF NOT EXISTS "drizzle"',
  `CREATE TABLE IF NOT EXISTS ${migrationsTable} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)`,
];

const breakpoint = '--> statement-breakpoint';

interface Statement {
  readonly text: string;
  /** Where it begins in the file, in characters. */
  readonly offset: number;
}

export interface Migration {
  /** Name without extension, e.g. `0000_tables`. */
  readonly tag: string;
  /** Milliseconds since 1970 when it was generated: drizzle-kit's identity of a migration. */
  readonly when: number;
  /** SHA-256 of the file, in hexadecimal. */
  readonly hash: string;
  readonly path: string;
  readonly sql: string;
  readonly statements: readonly Statement[];
}

/** The folder of a database's migrations. */
export const migrationsFolder = (key: DatabaseKey): string => join(packageRoot(), 'drizzle', key);

/** The migrations of a database in the journal's order. @throws MigrationError naming what is missing. */
export function readMigrations(key: DatabaseKey, folder = migrationsFolder(key)): Migration[] {
  const journalPath = join(folder, 'meta', '_journal.json');
  if (!existsSync(journalPath)) {
    throw new MigrationError(
      `${key} has no migrations: ${journalPath} does not exist. Run "npm run db:generate -- ${key} --name tables".`,
      { database: key },
    );
  }
  const journal = JSON.parse(readFileSync(journalPath, 'utf8')) as {
    entries: { tag: string; when: number }[];
  };
  return journal.entries.map(({ tag, when }) => {
    const path = join(folder, `${tag}.sql`);
    if (!existsSync(path)) {
      throw new MigrationError(
        `The journal of ${key} names ${tag}, but ${path} does not exist. Restore the file from version control.`,
        { database: key, migration: tag },
      );
    }
    const sql = readFileSync(path, 'utf8');
    const hash = createHash('sha256').update(sql).digest('hex');
    return { tag, when, hash, path, sql, statements: splitStatements(sql) };
  });
}

function splitStatements(sql: string): Statement[] {
  let offset = 0;
  return sql.split(breakpoint).map((text) => {
    const statement = { text, offset };
    offset += text.length + breakpoint.length;
    return statement;
  });
}
