// Small JSON files that other processes read, replaced whole, so that nobody sees half of one.
import { readFile } from 'node:fs/promises';
import writeFileAtomic from 'write-file-atomic';

/** Of calls that overlap, the last one stays. */
export const writeJson = (path: string, value: unknown): Promise<void> =>
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });

/** undefined where the file is missing or is not JSON: all that is kept this way can be created again. */
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
