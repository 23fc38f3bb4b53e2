// Copies of migration folders, to which a test adds what it needs.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseKey } from '../../src/databases.ts';
import { migrationsFolder } from '../../src/migrations/files.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { afterFile } from './after-file.ts';
import { emptyDatabase, openSessionPool } from './database.ts';
import { compiledFolder } from './names.ts';

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-migrations-'));
  afterFile(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

interface Entry {
  idx: number;
  when: number;
  tag: string;
  version: string;
  breakpoints: boolean;
}

/** A migrations folder that a test may change; journal and files stay drizzle-kit's. */
export class Folder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get #journalPath(): string {
    return join(this.path, 'meta', '_journal.json');
  }

  get entries(): Entry[] {
    return (JSON.parse(readFileSync(this.#journalPath, 'utf8')) as { entries: Entry[] }).entries;
  }

  set entries(entries: Entry[]) {
    writeFileSync(
      this.#journalPath,
      JSON.stringify({ version: '7', dialect: 'postgresql', entries }, null, 2),
    );
  }

  /** The tag that drizzle-kit would give to the next migration of this name. */
  nextTag(name: string): string {
    return `${String(this.entries.length).padStart(4, '0')}_${name}`;
  }

  /** Adds a migration after the others; `when` moves it elsewhere in time. */
  add(tag: string, sql: string, { down, when }: { down?: string; when?: number } = {}): this {
    const { entries } = this;
    const last = entries.at(-1);
    const next = {
      idx: entries.length,
      version: '7',
      when: when ?? (last?.when ?? 0) + 1000,
      tag,
      breakpoints: true,
    };
    this.entries = [...entries, next];
    this.write(`${tag}.sql`, sql);
    if (down !== undefined) this.write(`${tag}.down.sql`, down);
    return this;
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.path, name), text);
  }

  read(name: string): string {
    return readFileSync(join(this.path, name), 'utf8');
  }

  remove(name: string): void {
    rmSync(join(this.path, name));
  }
}

export function emptyFolder(): Folder {
  const path = temporaryFolder();
  mkdirSync(join(path, 'meta'));
  const folder = new Folder(path);
  folder.entries = [];
  return folder;
}

export function copyOfFolder(key: DatabaseKey): Folder {
  const path = temporaryFolder();
  cpSync(migrationsFolder(key), path, { recursive: true });
  return new Folder(path);
}

/**
 * A copy of the project, for the command line, which knows only its own migrations.
 * @param more files and folders beyond what the command line needs.
 */
export function copyOfProject(more: readonly string[] = []): {
  root: string;
  folder: (key: DatabaseKey) => Folder;
} {
  const root = temporaryFolder();
  const from = packageRoot();
  const parts = ['package.json', 'tsconfig.json', '.squawk.toml', 'schema', 'src', 'scripts', 'drizzle'];
  const configs = ['core', 'tracking', 'apps'].map((name) => `drizzle.${name}.config.ts`);
  for (const part of [...parts, ...configs, ...more])
    cpSync(join(from, part), join(root, part), { recursive: true });
  cpSync(join(from, compiledFolder), join(root, 'dist'), { recursive: true });
  symlinkSync(join(from, 'node_modules'), join(root, 'node_modules'));
  return { root, folder: (key) => new Folder(join(root, 'drizzle', key)) };
}

export const tags = (migrations: readonly { tag: string }[]) => migrations.map(({ tag }) => tag);
export const freshPool = async () => openSessionPool('atriz', await emptyDatabase('atriz'));
export const exists = async (pool: Awaited<ReturnType<typeof freshPool>>, name: string) =>
  (await pool.query('SELECT to_regclass($1) IS NOT NULL AS found', [name])).rows[0]?.found;
