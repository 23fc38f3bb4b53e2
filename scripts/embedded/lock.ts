// One running cluster per folder: the lock file says who holds it, and a dead holder holds nothing.
import { randomUUID } from 'node:crypto';
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive } from '../../src/config.ts';
import { EmbeddedClusterError } from './errors.ts';
import { isRecord } from './files.ts';
import { startMark } from './processes.ts';

interface Holder {
  pid: number;
  startedAt: string;
  startMark: string | undefined;
}

/**
 * Takes the folder's lock. The returned function gives it back.
 * @throws EmbeddedClusterError `already_running` naming the holder's pid and since when.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'cluster.lock');
  const mark = await startMark(process.pid);
  const mine = JSON.stringify({ pid: process.pid, startedAt: new Date().toISOString(), startMark: mark });
  // Written to a temporary name and linked: a lock file is complete from the moment it exists.
  const aside = join(folder, `cluster.lock.${randomUUID()}`);
  await writeFile(aside, mine, { mode: 0o600 });
  try {
    for (;;) {
      try {
        await link(aside, path);
        return async () => {
          if ((await readText(path)) === mine) await unlink(path);
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      await removeStale(folder, path);
    }
  } finally {
    await unlink(aside).catch(() => undefined);
  }
}

async function removeStale(folder: string, path: string): Promise<void> {
  const found = await readText(path);
  if (found === undefined) return;
  const holder = parseHolder(found);
  if (holder && (await holds(holder))) {
    throw new EmbeddedClusterError(
      'already_running',
      `An embedded cluster already runs on this folder: process ${holder.pid}, since ${holder.startedAt}.`,
      {
        folder,
        mend: `use the running one (its URLs are in ${join(folder, 'cluster.json')}), or stop it: kill -INT ${holder.pid}`,
      },
    );
  }
  // Two starters may both find the same stale file: only what was judged stale may go away.
  const away = `${path}.${randomUUID()}`;
  await rename(path, away).catch(() => undefined);
  if ((await readText(away)) !== found) await link(away, path).catch(() => undefined);
  await unlink(away).catch(() => undefined);
}

async function holds(holder: Holder): Promise<boolean> {
  if (!isAlive(holder.pid)) return false;
  const mark = await startMark(holder.pid);
  // A pid is given out again after a crash or a reboot; the start time tells the two apart.
  return mark === undefined || holder.startMark === undefined || mark === holder.startMark;
}

function parseHolder(text: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (!isRecord(value) || typeof value.pid !== 'number') return undefined;
    const mark = value.startMark;
    return {
      pid: value.pid,
      startedAt: String(value.startedAt),
      startMark: typeof mark === 'string' ? mark : undefined,
    };
  } catch {
    return undefined;
  }
}

async function readText(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}
