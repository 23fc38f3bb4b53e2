// Reads the files of drizzle/: from the disk or, in a build, from the text that is packed into it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DatabaseTarget, keyOf } from '../databases.ts';
import { packageRoot } from './package-root.ts';
import { packed } from './packed.ts';

const isPacked = Object.keys(packed).length > 0;
/** Paths in `packed` have slashes, also on Windows. */
const packedText = (path: string): string | undefined => packed[path.replaceAll('\\', '/')];

export const migrationsFolder = (key: DatabaseTarget): string =>
  isPacked ? `drizzle/${keyOf(key)}` : join(packageRoot(), 'drizzle', keyOf(key));

export const hasFile = (path: string): boolean => packedText(path) !== undefined || existsSync(path);

export function readBytes(path: string): Buffer {
  const text = packedText(path);
  return text === undefined ? readFileSync(path) : Buffer.from(text);
}

export function filesIn(folder: string): string[] {
  const names = Object.keys(packed)
    .filter((path) => path.startsWith(`${folder}/`))
    .map((path) => path.slice(folder.length + 1));
  return names.length > 0 ? names : readdirSync(folder);
}
