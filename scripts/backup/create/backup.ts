// One run: dumps several databases at once into one folder, which becomes a backup when all of them are whole.

import type { DatabaseKey } from '../../../src/databases.ts';
import { withCatalogPath } from '../../../src/sql/catalog-path.ts';
import { withPool } from '../../cli/pools.ts';
import { installedPrograms } from '../client/versions.ts';
import { inParallel } from '../interruptible.ts';
import { type Backup, describeFile } from '../library/backups.ts';
import type { DatabaseBackup, Manifest } from '../library/manifest.ts';
import { type DumpOptions, directUrl, dumpDatabase } from './dump.ts';
import { type RunFolder, startRun } from './run-folder.ts';

export interface BackupOptions extends Omit<DumpOptions, 'installed' | 'holds'> {
  /** Folder of backups. */
  readonly to: string;
  /** Databases at once. */
  readonly jobs: number;
  readonly holds: (key: DatabaseKey) => DatabaseBackup['holds'];
}

/** All of them or none: a failure leaves nothing that looks like a backup. */
export async function makeBackup(keys: readonly DatabaseKey[], options: BackupOptions): Promise<Backup> {
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

/** The dumps and their manifest, in a folder that is not a backup yet. */
export async function dumpAll(
  keys: readonly DatabaseKey[],
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
    // Hashed while the next database is dumped already.
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

/** A run ends when its largest database does, so that one begins first. */
async function largestFirst(keys: readonly DatabaseKey[]): Promise<DatabaseKey[]> {
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
