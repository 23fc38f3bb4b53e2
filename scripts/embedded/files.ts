// Small JSON files that other processes read: written to a temporary name and renamed, so that nobody sees half of one.
import { readFile, rename, writeFile } from 'node:fs/promises';

export async function writeJson(path: string, value: unknown): Promise<void> {
  const aside = `${path}.${process.pid}.tmp`;
  await writeFile(aside, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  await rename(aside, path);
}

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
