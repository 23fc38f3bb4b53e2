// One run: dumps several databases at once into one folder, which becomes a backup when all of them are whole.
import type { DatabaseKey } from '../../src/databases.ts';
import type { Backup } from './backups.ts';
import { type DumpOptions, directUrl, dumpDatabase } from './dump.ts';
import { inParallel } from './interruption.ts';
import type { DatabaseBackup, Manifest } from './manifest.ts';
import { installedPrograms } from './programs.ts';
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
  const installed = await installedPrograms();
  const databases = await inParallel(keys, jobs, signal, (key, signal) =>
    dumpDatabase(key, folder, { holds: holds(key), installed, signal, progress }),
  );
  return { format: 'atriz-backup-1', startedAt, finishedAt: new Date().toISOString(), databases };
}
