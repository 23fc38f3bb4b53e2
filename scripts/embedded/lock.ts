// Allows one running cluster per folder. A lock file names the owner; it is stale if the owner has ended.
import { randomUUID } from 'node:crypto';
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { EmbeddedClusterError } from './errors.ts';
import { isRunning, startMark } from './processes.ts';

const lockOwner = v.object({ pid: v.number(), startedAt: v.string(), startMark: v.optional(v.string()) });

type LockOwner = v.InferOutput<typeof lockOwner>;

/**
 * Acquires the lock of the folder. The returned function releases it.
 * @throws EmbeddedClusterError `already_running` with the owner's pid and start time.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'cluster.lock');
  const mark = await startMark(process.pid);
  const content = JSON.stringify({ pid: process.pid, startedAt: new Date().toISOString(), startMark: mark });
  // Written under a temporary name and then linked, so that a lock file is always complete.
  const incomplete = join(folder, `cluster.lock.${randomUUID()}`);
  await writeFile(incomplete, content, { mode: 0o600 });
  try {
    for (;;) {
      try {
        await link(incomplete, path);
        return async () => {
          if ((await readText(path)) === content) await unlink(path);
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      await removeStale(folder, path);
    }
  } finally {
    await unlink(incomplete).catch(() => undefined);
  }
}

async function removeStale(folder: string, path: string): Promise<void> {
  const found = await readText(path);
  if (found === undefined) return;
  const owner = parseOwner(found);
  if (owner && (await isRunning(owner.pid, owner.startMark))) {
    throw new EmbeddedClusterError(
      'already_running',
      `An embedded cluster already runs on this folder: process ${owner.pid}, since ${owner.startedAt}.`,
      {
        folder,
        mend: `use the running one (its URLs are in ${join(folder, 'cluster.json')}), or stop it: kill -INT ${owner.pid}`,
      },
    );
  }
  // Another process may have replaced the stale file in the meantime: remove only the file that was read.
  const moved = `${path}.${randomUUID()}`;
  await rename(path, moved).catch(() => undefined);
  if ((await readText(moved)) !== found) await link(moved, path).catch(() => undefined);
  await unlink(moved).catch(() => undefined);
}

function parseOwner(text: string): LockOwner | undefined {
  try {
    return v.parse(lockOwner, JSON.parse(text));
  } catch {
    return undefined;
  }
}

async function readText(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}
