// Reads a migrations folder. All knowledge of drizzle-kit's layout is in this file.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type DatabaseTarget, keyOf } from '../databases.ts';
import { MigrationError } from '../errors.ts';
import { filesIn, hasFile, migrationsFolder, readBytes } from './files.ts';
import { firstCommand } from './skip-comments.ts';

/** drizzle-kit's table of applied migrations, which this package also uses. */
export const migrationsTable = '"drizzle"."__drizzle_migrations"';

/** The same statements as in drizzle-orm's migrator, so that either migrator can run first. */
export const createMigrationsTable = [
  'CREATE SCHEMA IF NOT EXISTS "drizzle"',
  `CREATE TABLE IF NOT EXISTS ${migrationsTable} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)`,
];

const breakpoint = '--> statement-breakpoint';

/** Marks a down file that a person must complete: `db:check` and the runner refuse it. */
export const unfinishedMark = '-- write by hand:';

/** One statement of a migration, or several that drizzle-kit would send together. */
export interface Statement {
  readonly text: string;
  /** Start in the file, in UTF-16 code units. */
  readonly offset: number;
}

/** A file of SQL, split where drizzle-kit splits it. */
export interface SqlFile {
  readonly path: string;
  readonly sql: string;
  readonly statements: readonly Statement[];
  /** False when its first line is `-- transaction: none`. */
  readonly inTransaction: boolean;
}

export interface Migration extends SqlFile {
  /** Name without extension, e.g. `0000_tables`. */
  readonly tag: string;
  /** When it was generated, in milliseconds since 1970. drizzle-kit identifies a migration by this time. */
  readonly when: number;
  /** SHA-256 of the file, in hexadecimal, as drizzle-kit records it. */
  readonly hash: string;
  /** `hash`, and the hashes of the same text with other line endings, which do not count as an edit. */
  readonly sameText: readonly string[];
}

/** Content of a migrations folder, valid or not. */
export interface MigrationsFolder {
  readonly migrations: readonly Migration[];
  /** Sentences about files that are missing, duplicate, unreadable or not in the journal. */
  readonly problems: readonly string[];
}

/** Path of drizzle-kit's snapshot of the schema after a migration. */
export const snapshotPath = (key: DatabaseTarget, tag: string): string =>
  join(migrationsFolder(key), 'meta', `${tag.split('_', 1)[0]}_snapshot.json`);

/** Reads a database's migrations, in the journal's order. @throws MigrationError naming the problems of the folder. */
export function readMigrations(key: DatabaseTarget, folder = migrationsFolder(key)): readonly Migration[] {
  const { migrations, problems } = readFolder(key, folder);
  if (problems.length > 0) {
    throw new MigrationError(`The migrations of ${key} are not sound: ${problems.join(' ')}`, {
      database: key,
    });
  }
  return migrations;
}

/** Reads a folder and reports errors in `problems` instead of throwing them. */
export function readFolder(key: DatabaseTarget, folder = migrationsFolder(key)): MigrationsFolder {
  const journalPath = join(folder, 'meta', '_journal.json');
  if (!hasFile(journalPath)) {
    const mend = `Run "npm run db:generate -- ${keyOf(key)} --name tables".`;
    return { migrations: [], problems: [`${journalPath} does not exist. ${mend}`] };
  }
  const entries = readJournal(journalPath);
  if (typeof entries === 'string') return { migrations: [], problems: [entries] };

  const problems = [...doubles(entries, journalPath), ...strangers(entries, folder, key)];
  const migrations = entries.flatMap(({ tag, when }) => {
    const path = join(folder, `${tag}.sql`);
    if (!hasFile(path)) {
      problems.push(`The journal names ${tag}, but ${path} does not exist: restore it from version control.`);
      return [];
    }
    const sql = readSql(path);
    if (typeof sql !== 'string') {
      problems.push(sql.problem);
      return [];
    }
    const unix = sql.replaceAll('\r\n', '\n');
    const sameText = [sql, unix, unix.replaceAll('\n', '\r\n')].map(sha256);
    return [{ tag, when, hash: sha256(sql), sameText, ...splitSql(path, sql) }];
  });
  return { migrations, problems };
}

/** Reads a migration file. Returns its text, or the problem with it. */
function readSql(path: string): string | { problem: string } {
  try {
    const bytes = readBytes(path);
    const sql = bytes.toString('utf8');
    // Decoding replaces invalid UTF-8, so that the text would differ from the file.
    if (!Buffer.from(sql, 'utf8').equals(bytes))
      return { problem: `${path} is not UTF-8: save it with that encoding.` };
    if (sql.startsWith('\uFEFF'))
      return {
        problem: `${path} begins with a byte order mark, which PostgreSQL refuses: save it without one.`,
      };
    return sql;
  } catch (error) {
    return { problem: `${path} cannot be read (${(error as Error).message}).` };
  }
}

/** Reads the down file of a migration. Returns undefined if there is none, or the problem with it. */
export function readDown(migration: Migration): SqlFile | { problem: string } | undefined {
  const path = downPath(migration);
  if (!hasFile(path)) return undefined;
  const sql = readSql(path);
  return typeof sql === 'string' ? splitSql(path, sql) : sql;
}

/** The reason from `-- irreversible: reason`, which must be among the comments at the start of a down file. */
export const irreversibleReason = (sql: string): string | undefined =>
  /^(?:\s*--.*\n)*?\s*--\s*irreversible:\s*(.*)/.exec(sql)?.[1];

/** Whether a file has no command: only white space, semicolons and comments, such as breakpoints. */
export const isEmpty = ({ sql }: Pick<SqlFile, 'sql'>): boolean => firstCommand(sql) === sql.length;

export const downPath = ({ path }: Pick<Migration, 'path'>): string => path.replace(/\.sql$/, '.down.sql');

interface JournalEntry {
  tag: string;
  when: number;
}

function readJournal(path: string): JournalEntry[] | string {
  try {
    const { entries } = JSON.parse(readBytes(path).toString('utf8')) as { entries: JournalEntry[] };
    const isEntry = ({ tag, when }: JournalEntry) => typeof tag === 'string' && Number.isSafeInteger(when);
    if (Array.isArray(entries) && entries.every(isEntry)) return entries;
    return `${path} is not a journal of drizzle-kit: restore it from version control.`;
  } catch (error) {
    const reason = (error as Error).message;
    return `${path} cannot be read (${reason}): resolve the merge, or restore it from version control.`;
  }
}

// If two branches both generate number 0007, both files remain after the merge.
function doubles(entries: readonly JournalEntry[], journalPath: string): string[] {
  const repeated = (read: (entry: JournalEntry) => string | number) =>
    entries.filter((entry, index) => entries.findIndex((other) => read(other) === read(entry)) < index);
  const numbers = repeated(({ tag }) => tag.split('_', 1)[0] ?? '').map(
    ({ tag }) => `The number of ${tag} exists twice: generate the later one again after the merge.`,
  );
  const times = repeated(({ when }) => when).map(
    ({ tag }) => `${journalPath} gives ${tag} the "when" of another migration: generate it again.`,
  );
  return [...numbers, ...times];
}

function strangers(entries: readonly JournalEntry[], folder: string, key: DatabaseTarget): string[] {
  const known = new Set(entries.map(({ tag }) => `${tag}.sql`));
  const names = filesIn(folder).filter((name) => name.endsWith('.sql') && !known.has(name));
  return names
    .filter((name) => !known.has(name.replace(/\.down\.sql$/, '.sql')))
    .map((name) => {
      const path = join(folder, name);
      // "drizzle-kit drop" deletes the migration, its snapshot and its journal entry, but not its down file.
      return name.endsWith('.down.sql') && !names.includes(name.replace(/\.down\.sql$/, '.sql'))
        ? `${path} has no migration, as after "drizzle-kit drop": delete it where that was applied nowhere; else restore ` +
            `${folder} from version control and take the migration back first, "npm run migrate -- down ${key}".`
        : `${path} is not in the journal: generate it with drizzle-kit, or delete it.`;
    });
}

function splitSql(path: string, sql: string): SqlFile {
  let offset = 0;
  const statements = sql.split(breakpoint).map((text) => {
    const statement = { text, offset };
    offset += text.length + breakpoint.length;
    return statement;
  });
  return { path, sql, statements, inTransaction: !/^--\s*transaction:\s*none\b/.test(sql) };
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
