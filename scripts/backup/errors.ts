// The error of backups, restores and drills: what is wrong, where, and what mends it.
import { AtrizDatabaseError } from '../../src/errors.ts';

/** A backup could not be made, is invalid or cannot be restored here. Exit code 1. */
export class BackupError extends AtrizDatabaseError {
  override readonly name = 'BackupError';
}
