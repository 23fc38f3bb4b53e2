// Reads and writes small JSON files. A write replaces the whole file, so that no process reads half of one.
import { readFile } from 'node:fs/promises';
import writeFileAtomic from 'write-file-atomic';

/** If calls overlap, the last one wins. */
export const writeJson = (path: string, value: unknown): Promise<void> =>
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });

/** Returns undefined if the file is missing or not JSON: everything stored this way can be created again. */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
