// Restores a backup beside the real database, to compare it or to try something on it, and drops it afterwards.
import type { DatabaseTarget } from '../../../src/databases.ts';
import { databaseName } from '../../commands/create.ts';
import { installedPrograms } from '../client/versions.ts';
import type { Running } from '../interruptible.ts';
import type { DatabaseBackup } from '../library/manifest.ts';
import { openMaintenance } from './new-database.ts';
import { requireRestorable } from './requirements.ts';
import { type Restored, restoreDatabase } from './restore.ts';

/**
 * Restores a database of a backup beside the real one, and always drops it after `work`.
 * @param work gets the warnings of the restore.
 * @throws BackupError if it cannot be restored.
 */
export async function withRestored<Result>(
  key: DatabaseTarget,
  folder: string,
  backup: DatabaseBackup,
  running: Running,
  work: (restored: Restored, warnings: readonly string[]) => Promise<Result>,
): Promise<Result> {
  const maintenance = openMaintenance(key);
  try {
    const options = { withRoles: true, makesRoles: false, installed: await installedPrograms(), ...running };
    const programs = await requireRestorable(folder, backup, maintenance, options);
    const warnings: string[] = [];
    const restored = await restoreDatabase(
      key,
      backup,
      { maintenance, name: databaseName(key) },
      { ...options, folder, programs, onWarning: (text) => warnings.push(text) },
    );
    try {
      return await work(restored, warnings);
    } finally {
      await restored.beside.drop();
    }
  } finally {
    await maintenance.close();
  }
}
