// Findings about access, databases that restores kept, and backups.
import { resolve } from 'node:path';
import { isProduction } from '../../src/config.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { checkAccess } from '../access/check.ts';
import { isCheckedByMatrix, matrixOf, shortened } from '../access/environment.ts';
import { listBackups } from '../backup/library/backups.ts';
import { readKeptDatabases } from '../backup/restore/new-database.ts';
import { defaultFolder } from '../commands/backup.ts';
import { type Check, error, type Found, warning } from './finding.ts';
import { thresholds } from './thresholds.ts';

export const backupCheck = 'backups';

export const operationChecks: readonly Check[] = [
  { name: 'access', looksAt: 'roles and grants against the access matrix', run: findAccess },
  {
    name: 'kept-databases',
    looksAt: 'databases that restores kept, with people erased since',
    run: findKept,
  },
  { name: backupCheck, looksAt: 'the age of the newest backup', run: findOldBackups },
];

/** Returns no findings if the matrix does not apply to the database, such as one that was created without roles. */
async function findAccess(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  if (!(await isCheckedByMatrix(db, key))) return [];
  const differences = await checkAccess(db, matrixOf(key));
  return differences.map(({ what, mend }) =>
    error(what, shortened(mend), `all of them: npm run db:access -- apply ${key}`),
  );
}

async function findKept(db: Pool): Promise<Found[]> {
  const kept = await readKeptDatabases(db, db.name);
  return kept.map((name) =>
    warning(
      `a restore of ${db.name} has kept or left ${name}: it still holds people who are erased since`,
      `DROP DATABASE ${quoteIdentifier(name)}`,
      'once it is not needed any more, and no restore is at work',
    ),
  );
}

/**
 * Reads ./backups. A critical database without a backup is reported in production, or if other databases have
 * backups. A database that is not critical is reported only if its newest backup is too old.
 */
async function findOldBackups(_: Pool, key: DatabaseTarget): Promise<Found[]> {
  const { database, backup } = definitionOf(key);
  const { backups } = await listBackups(resolve(defaultFolder));
  const newest = backups.find(({ manifest }) =>
    manifest.databases.some((database) => database.key === key && database.holds === 'everything'),
  );
  const mend = `npm run db:backup -- ${key}`;
  const note = 'backups elsewhere (--to) are not looked at: list those with db:backup -- --list --to FOLDER';
  if (!newest) {
    const isExpected = backup.critical && (backups.length > 0 || isProduction());
    return isExpected ? [error(`${database} has no backup in ./${defaultFolder}`, mend, note)] : [];
  }
  const age = (Date.now() - Date.parse(newest.manifest.startedAt)) / 1000;
  if (age <= thresholds.backups[backup.every]) return [];
  const found = backup.critical ? error : warning;
  return [found(`the newest backup of ${database} is ${Math.floor(age / 3600)} hours old`, mend, note)];
}
