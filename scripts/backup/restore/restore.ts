// Restores one database of a backup into a separate database, which is dropped on failure.
import type { DatabaseTarget } from '../../../src/databases.ts';
import { AtrizDatabaseError } from '../../../src/errors.ts';
import type { Pool } from '../../../src/pool.ts';
import { makeRoles } from '../../access/environment.ts';
import type { Contents } from '../contents.ts';
import { BackupError } from '../errors.ts';
import type { Running } from '../interruptible.ts';
import type { DatabaseBackup } from '../library/manifest.ts';
import { createNewDatabase, type NewDatabase } from './new-database.ts';
import { type FillOptions, fillDatabase, inSession, readRestored } from './pg-restore.ts';

interface RestoreOptions extends FillOptions, Running {
  /** Whether to create the roles of the access matrix that the server lacks. */
  readonly makesRoles: boolean;
  readonly onWarning: (text: string) => void;
}

export interface Restored {
  readonly beside: NewDatabase;
  readonly contents: Contents;
  readonly restoreSeconds: number;
  readonly compareSeconds: number;
}

/**
 * @param name the name of the real database, from which the name of the new database is derived.
 * @throws BackupError with the messages of pg_restore, after dropping the new database.
 */
export async function restoreDatabase(
  key: DatabaseTarget,
  backup: DatabaseBackup,
  { maintenance, name }: { maintenance: Pool; name: string },
  options: RestoreOptions,
): Promise<Restored> {
  const { progress, signal } = options;
  signal.throwIfAborted();
  progress.stage(key, 'restoring');
  const started = performance.now();
  const beside = await createNewDatabase(key, maintenance, name, backup.properties, options.onWarning);
  try {
    if (options.makesRoles) await inSession(beside.url, (pool) => makeRoles(pool, key));
    await fillDatabase(beside.url, backup, options);
    const restored = performance.now();
    progress.stage(key, 'comparing');
    signal.throwIfAborted();
    const contents = await readRestored(beside.url, key, { holds: backup.holds, signal });
    signal.throwIfAborted();
    progress.stage(key, 'restored');
    const compared = performance.now();
    return {
      beside,
      contents,
      restoreSeconds: (restored - started) / 1000,
      compareSeconds: (compared - restored) / 1000,
    };
  } catch (error) {
    await beside.drop();
    if (signal.aborted) throw signal.reason;
    throw describeFailure(key, error);
  }
}

function describeFailure(key: DatabaseTarget, error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  const isOurs = error instanceof AtrizDatabaseError && !(error instanceof BackupError);
  if (isOurs || (!(error instanceof BackupError) && !code)) return error;
  return new BackupError(`${key} could not be restored, and what was there is as it was: ${message}`, {
    cause: error,
  });
}
