// Creates the folder of a backup run, and renames it when it is complete. The next run removes folders of killed runs.
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { isRunning, startMark } from '../../embedded/processes.ts';
import { type Manifest, manifestName } from '../library/manifest.ts';

const prefix = '.incomplete-';
const removedPrefix = '.removed-';
const ownerName = 'run.json';

/** A run on another host counts as killed a day after its last write. */
const foreignAgeMs = 24 * 3600 * 1000;

const processMark = v.object({
  pid: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  /** Differs between two processes that had the same pid. */
  mark: v.nullable(v.string()),
});
const runOwner = v.object({
  ...processMark.entries,
  host: v.string(),
  /** The pg_dump processes, which keep running if the owner is killed. */
  children: v.array(processMark),
});
type Process = v.InferOutput<typeof processMark>;
type Owner = v.InferOutput<typeof runOwner>;

export interface RunFolder {
  readonly path: string;
  /** Records a child process, so that a later run can end it. */
  addChild(pid: number): Promise<void>;
  /** Writes the manifest and turns the folder into a backup, durably. @returns the folder of the backup. */
  complete(manifest: Manifest): Promise<string>;
  /** Removes an incomplete folder; does nothing after `complete`. */
  discard(): Promise<void>;
}

/** Starts a run in `parent`, which is created if missing. */
export async function startRun(parent: string): Promise<RunFolder> {
  const existed = existsSync(parent);
  await mkdir(parent, { recursive: true, mode: 0o700 });
  await removeLeftovers(parent);
  const owner: Owner = { ...(await describeProcess(process.pid)), host: hostname(), children: [] };
  const path = join(parent, `${prefix}${process.pid}-${randomBytes(4).toString('hex')}`);
  // Dumps contain password hashes: only the user of this process may read them.
  await mkdir(path, { mode: 0o700 });
  let remembered = Promise.resolve();
  // A rename, so that a kill leaves no partial file. One write at a time, because dumps start in parallel.
  const remember = () => {
    remembered = remembered.then(async () => {
      await writeFile(join(path, `${ownerName}.new`), JSON.stringify(owner));
      await rename(join(path, `${ownerName}.new`), join(path, ownerName));
    });
    return remembered;
  };
  await remember();
  return {
    path,
    async addChild(pid) {
      owner.children.push(await describeProcess(pid));
      await remember();
    },
    async complete(manifest) {
      await writeDurably(join(path, manifestName), `${JSON.stringify(manifest, null, 2)}\n`);
      await syncFolder(path);
      const folder = await renameToTime(path, parent, Date.parse(manifest.startedAt));
      await rm(join(folder, ownerName));
      await syncFolder(parent);
      return folder;
    },
    async discard() {
      await remembered.catch(() => undefined);
      await rm(path, { recursive: true, force: true });
      if (!existed) await rmdir(parent).catch(() => undefined);
    },
  };
}

/** Names the folder after `time`, or after a later millisecond if another backup has that name. */
async function renameToTime(path: string, parent: string, time: number): Promise<string> {
  const folder = join(parent, new Date(time).toISOString().replaceAll(':', '-'));
  try {
    await rename(path, folder);
    return folder;
  } catch (error) {
    if (!['EEXIST', 'ENOTEMPTY', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    if (!existsSync(folder)) throw error;
    return renameToTime(path, parent, time + 1);
  }
}

/** Whether the name of a folder marks an unfinished run. */
export const isIncomplete = (name: string): boolean => name.startsWith(prefix);

/** Removes a backup. A rename comes first, so that no partial backup is ever listed. The next run removes leftovers. */
export async function removeComplete(folder: string): Promise<void> {
  const aside = join(dirname(folder), `${removedPrefix}${basename(folder)}`);
  await rename(folder, aside);
  await rm(aside, { recursive: true, force: true, maxRetries: 3 });
}

async function removeLeftovers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    // Safe even if another process is still removing the folder.
    if (name.startsWith(removedPrefix)) await rm(path, { recursive: true, force: true, maxRetries: 3 });
    if (!isIncomplete(name)) continue;
    const owner = await readOwner(path);
    if (!(await isLeftOver(path, owner))) continue;
    for (const child of owner?.host === hostname() ? owner.children : []) {
      if (await isRunning(child.pid, child.mark)) process.kill(child.pid, 'SIGTERM');
    }
    await rm(path, { recursive: true, force: true });
  }
}

async function isLeftOver(path: string, owner: Owner | undefined): Promise<boolean> {
  if (owner?.host === hostname()) return !(await isRunning(owner.pid, owner.mark));
  // The run is on another host with a shared disk, or was killed before it wrote its owner file.
  return Date.now() - (await lastChange(path)) > (owner ? foreignAgeMs : 60_000);
}

const describeProcess = async (pid: number): Promise<Process> => ({
  pid,
  mark: (await startMark(pid)) ?? null,
});

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    return v.parse(runOwner, JSON.parse(await readFile(join(path, ownerName), 'utf8')));
  } catch {
    // The file is missing, incomplete or of another version, or another process has renamed the folder.
    return undefined;
  }
}

async function lastChange(path: string): Promise<number> {
  const files = await readdir(path).catch(() => []);
  const times = [path, ...files.map((name) => join(path, name))].map((file) =>
    stat(file).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    ),
  );
  return Math.max(...(await Promise.all(times)));
}

export const writeDurably = (path: string, text: string): Promise<void> =>
  writeFile(path, text, { mode: 0o600, flush: true });

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders, and its file system keeps the order itself.
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
