// Finds this package's root folder, which contains drizzle/, whether the code runs from source or from dist/.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(folder: string): string {
  if (existsSync(join(folder, 'package.json')) && existsSync(join(folder, 'drizzle'))) return folder;
  const parent = dirname(folder);
  if (parent === folder)
    throw new Error('The folder of @atriz/database has no drizzle/: reinstall the package.');
  return findRoot(parent);
}

/** Searches at each call, so that importing this package reads no file. */
export const packageRoot = (): string => findRoot(dirname(fileURLToPath(import.meta.url)));
