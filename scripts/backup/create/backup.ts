// One backup run: dumps several databases in parallel into one folder, which becomes a backup if all succeed.

import type { DatabaseTarget } from '../../../src/databases.ts';
import { withCatalogPath } from '../../../src/sql/catalog-path.ts';
import { withPool } from '../../cli/pools.ts';
import { installedPrograms } from '../client/versions.ts';
import { inParallel } from '../interruptible.ts';
import { type Backup, describeFile } from '../library/backups.ts';
import type { DatabaseBackup, Manifest } from '../library/manifest.ts';
import { type DumpOptions, directUrl, dumpDatabase } from './dump.ts';
import { type RunFolder, startRun } from './run-folder.ts';

export interface BackupOptions extends Omit<DumpOptions, 'installed' | 'holds'> {
  /** Folder that holds the backups. */
  readonly to: string;
  /** Number of databases dumped in parallel. */
  readonly jobs: number;
  readonly holds: (key: DatabaseTarget) => DatabaseBackup['holds'];
}

/** Backs up all databases or none: a failure removes the folder. */
export async function makeBackup(keys: readonly DatabaseTarget[], options: BackupOptions): Promise<Backup> {
  for (const key of keys) directUrl(key);
  const folder = await startRun(options.to);
  try {
    const manifest = await dumpAll(keys, folder, options);
    return { folder: await folder.complete(manifest), manifest };
  } catch (error) {
    await folder.discard();
    throw error;
  }
}

/** Writes the dumps into a folder that is not a backup yet. @returns their manifest. */
export async function dumpAll(
  keys: readonly DatabaseTarget[],
  folder: RunFolder,
  { jobs, holds, signal, progress }: Omit<BackupOptions, 'to'>,
): Promise<Manifest> {
  const startedAt = new Date().toISOString();
  const [installed, sorted] = await Promise.all([installedPrograms(), jobs > 1 ? largestFirst(keys) : keys]);
  const dumped = await inParallel(sorted, jobs, signal, async (key, signal) => {
    const { entry, files } = await dumpDatabase(key, folder, {
      holds: holds(key),
      installed,
      signal,
      progress,
    });
    // Hash while the next database is being dumped.
    const hashes = Promise.all([
      describeFile(folder.path, files.dump),
      describeFile(folder.path, files.catalog),
    ]);
    hashes.catch(() => undefined);
    return { key, entry, hashes };
  });
  const databases: DatabaseBackup[] = [];
  for (const key of keys) {
    for (const { entry, hashes } of dumped.filter((one) => one.key === key)) {
      const [dump, catalog] = await hashes;
      databases.push({ ...entry, dump, catalog });
    }
  }
  return { format: 'atriz-backup-1', startedAt, finishedAt: new Date().toISOString(), databases };
}

/** The largest database takes the longest, so it starts first. */
async function largestFirst(keys: readonly DatabaseTarget[]): Promise<DatabaseTarget[]> {
  const sizes = await Promise.all(
    keys.map((key) =>
      withPool(key, (pool) =>
        withCatalogPath(pool, (transaction) =>
          transaction.query<{ bytes: number }>(
            'SELECT pg_database_size(current_database())::float8 AS bytes',
          ),
        ),
      ),
    ),
  );
  const bytes = new Map(keys.map((key, index) => [key, sizes[index]?.rows[0]?.bytes ?? 0]));
  return keys.toSorted((one, other) => (bytes.get(other) ?? 0) - (bytes.get(one) ?? 0));
}
