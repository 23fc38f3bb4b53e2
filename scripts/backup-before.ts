// The backup that a deployment makes before it migrates.
import type { DatabaseKey } from '../src/databases.ts';

/** Backs these databases up, whole or not at all, and says in a sentence where to. */
type BackupBefore = (keys: readonly DatabaseKey[]) => Promise<string>;

/** undefined: this version makes no backups, and the deployment says so. */
export const backupBefore: BackupBefore | undefined = undefined;
