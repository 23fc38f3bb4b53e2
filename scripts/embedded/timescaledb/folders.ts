// The data folders: one for each database, and a pristine one that new databases are copied from.
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { publishFolder, readJson, writeJson } from '../files.ts';
import { Instance, readWasm } from './instance.ts';

const databaseEntry = v.object({
  folder: v.string(),
  /** The database's name in the folder's own pg_database. A new copy still has the name of its template. */
  catalogName: v.string(),
});
const entriesFile = v.record(v.string(), databaseEntry);

type DatabaseEntry = v.InferOutput<typeof databaseEntry>;

export const maintenanceDatabase = 'postgres';

export class DatabaseFolders {
  readonly #root: string;
  readonly #entries: Map<string, DatabaseEntry>;
  readonly #pristineFolder: string;

  private constructor(root: string, entries: Map<string, DatabaseEntry>, pristine: string) {
    this.#root = root;
    this.#entries = entries;
    this.#pristineFolder = pristine;
  }

  static async open(root: string, onProgress: (message: string) => void): Promise<DatabaseFolders> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const stored = await readJson(join(root, 'databases.json'), entriesFile);
    const entries = new Map(Object.entries(stored ?? {}));
    const folders = new DatabaseFolders(root, entries, await pristineFolder(onProgress));
    if (!entries.has(maintenanceDatabase)) await folders.create(maintenanceDatabase, undefined);
    return folders;
  }

  names(): string[] {
    return [...this.#entries.keys()].sort();
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  path(name: string): string {
    return join(this.#root, this.#entry(name).folder);
  }

  catalogName(name: string): string {
    return this.#entry(name).catalogName;
  }

  async setCatalogName(name: string): Promise<void> {
    this.#entry(name).catalogName = name;
    await this.#save();
  }

  /** Copies the template's folder, which must not be open. If `template` is undefined, copies the pristine folder. */
  async create(name: string, template: string | undefined): Promise<void> {
    const source = template === undefined ? this.#pristineFolder : this.path(template);
    const catalogName = template === undefined ? maintenanceDatabase : this.catalogName(template);
    const folder = this.#unusedFolderName(name);
    const incomplete = join(this.#root, `${folder}.new`);
    await rm(incomplete, { recursive: true, force: true });
    await cp(source, incomplete, { recursive: true });
    await rm(join(incomplete, 'postmaster.pid'), { force: true });
    await rename(incomplete, join(this.#root, folder));
    this.#entries.set(name, { folder, catalogName });
    await this.#save();
  }

  async drop(name: string): Promise<void> {
    const path = this.path(name);
    this.#entries.delete(name);
    await this.#save();
    await rm(path, { recursive: true, force: true });
  }

  #entry(name: string): DatabaseEntry {
    const entry = this.#entries.get(name);
    if (!entry) throw new Error(`no database ${name}`);
    return entry;
  }

  // A database name may be `../x`, or differ from another only in case, which some file systems ignore.
  #unusedFolderName(name: string): string {
    const safe = name.replaceAll(/[^\w-]/g, '_').slice(0, 63) || '_';
    for (let count = 1; ; count++) {
      const folder = count === 1 ? safe : `${safe}-${count}`;
      if (!existsSync(join(this.#root, folder))) return folder;
    }
  }

  async #save(): Promise<void> {
    await writeJson(join(this.#root, 'databases.json'), Object.fromEntries(this.#entries));
  }
}

/**
 * initdb takes about four seconds in WASM. A copy of its result takes a quarter of a second. Therefore initdb runs once
 * per user and version, and the result is stored in the temporary folder.
 */
async function pristineFolder(onProgress: (message: string) => void): Promise<string> {
  const version = createHash('sha256')
    .update(await readWasm())
    .digest('hex')
    .slice(0, 12);
  const cached = join(tmpdir(), `atriz-timescaledb-${version}-${process.getuid?.() ?? 'user'}`);
  if (isOwnedByUs(cached)) return join(cached, 'data');
  onProgress('initialising TimescaleDB (once per machine)');
  const incomplete = await mkdtemp(`${cached}-`);
  const instance = await Instance.open(join(incomplete, 'data'), 'template1', () => undefined);
  await instance.close();
  await rm(join(incomplete, 'data', 'postmaster.pid'), { force: true });
  return join(await publishFolder(incomplete, cached, isOwnedByUs), 'data');
}

// The name is predictable and the temporary folder is shared: use only a private folder that this user owns.
function isOwnedByUs(path: string): boolean {
  if (!existsSync(join(path, 'data', 'PG_VERSION'))) return false;
  const { uid, mode } = statSync(path);
  return process.getuid === undefined || (uid === process.getuid() && (mode & 0o077) === 0);
}
