// Folders for the data of test servers, in memory where there is enough of it: as the Docker container has them.
import { mkdtempSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const memory = '/dev/shm';
/** A run needs less than two, and a machine has other things to do. */
const enough = 8 * 2 ** 30;

/** A new folder, the caller's to remove. */
export const makeDataFolder = (prefix: string): string =>
  mkdtempSync(join(hasMemory() ? memory : tmpdir(), prefix));

function hasMemory(): boolean {
  try {
    const { bavail, bsize } = statfsSync(memory);
    return bavail * bsize > enough && process.availableMemory() > enough;
  } catch {
    // Linux has it, other systems do not.
    return false;
  }
}
