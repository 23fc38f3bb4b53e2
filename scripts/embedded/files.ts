// Reads and writes JSON files that processes share, and publishes folders. No process sees them half-written.
import { readFile, rename, rm } from 'node:fs/promises';
import * as v from 'valibot';
import writeFileAtomic from 'write-file-atomic';

/** If calls overlap, the last one wins. */
export const writeJson = (path: string, value: unknown): Promise<void> =>
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });

/** Returns undefined if the file is missing or invalid, because everything stored this way can be created again. */
export async function readJson<Schema extends v.GenericSchema>(
  path: string,
  schema: Schema,
): Promise<v.InferOutput<Schema> | undefined> {
  try {
    return v.parse(schema, JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/**
 * Renames the finished folder `incomplete` to `shared`, where all processes look for it. Returns the folder to use:
 * `shared`, also if another process created it first, or `incomplete` if `shared` does not belong to this user.
 */
export async function publishFolder(
  incomplete: string,
  shared: string,
  isOwnedByUs: (folder: string) => boolean,
): Promise<string> {
  try {
    await rename(incomplete, shared);
  } catch {
    if (!isOwnedByUs(shared)) return incomplete;
    await rm(incomplete, { recursive: true, force: true });
  }
  return shared;
}
