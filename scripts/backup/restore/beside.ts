// Restores a backup into a temporary database beside the real one, for a comparison or a trial.
import type { DatabaseTarget } from '../../../src/databases.ts';
import { databaseName } from '../../commands/create.ts';
import { installedPrograms } from '../client/versions.ts';
import type { Running } from '../interruptible.ts';
import type { DatabaseBackup } from '../library/manifest.ts';
import { openMaintenance } from './new-database.ts';
import { requireRestorable } from './requirements.ts';
import { type Restored, restoreDatabase } from './restore.ts';

/**
 * Restores one database of a backup beside the real one, and always drops the new database after `work`.
 * @param work gets the warnings of the restore.
 * @throws BackupError if the database cannot be restored.
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
