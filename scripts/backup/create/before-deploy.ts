// Makes the backup that a deployment needs before its migrations.
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { type DatabaseTarget, definitionOf } from '../../../src/databases.ts';
import { defaultFolder } from '../../commands/backup.ts';
import { interruptible } from '../interruptible.ts';
import { makeBackup } from './backup.ts';

/** Backs up the critical databases of `keys`, all or none. @returns a text about the backup and the other databases. */
export async function backupBefore(keys: readonly DatabaseTarget[]): Promise<string> {
  const critical = keys.filter((key) => definitionOf(key).backup.critical);
  const others = keys.filter((key) => !critical.includes(key));
  const left =
    others.length > 0 ? `${others.join(', ')} is not critical and has no backup of this deployment` : '';
  if (critical.length === 0) return left;
  const { folder } = await interruptible('The backup', (running) =>
    makeBackup(critical, { to: resolve(defaultFolder), jobs: availableParallelism(), ...running }),
  );
  return [`${critical.join(', ')} ${critical.length === 1 ? 'is' : 'are'} in ${folder}`, left]
    .filter(Boolean)
    .join('; ');
}
