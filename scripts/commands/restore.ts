// restore: restores a backup into new databases, checks them, and then replaces the old ones with them.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { isProduction } from '../../src/config.ts';
import type { DatabaseTarget } from '../../src/databases.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { getMigrationStatus } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { selectTargets } from '../../src/targets.ts';
import { matrixOf } from '../access/environment.ts';
import { matrixRoles } from '../access/matrix.ts';
import { type ClientPrograms, installedPrograms } from '../backup/client/versions.ts';
import { directUrl } from '../backup/create/dump.ts';
import { BackupError } from '../backup/errors.ts';
import { interruptible, type Running } from '../backup/interruptible.ts';
import { type Backup, findBackup } from '../backup/library/backups.ts';
import { type DatabaseBackup, rowsOf } from '../backup/library/manifest.ts';
import { compareContents } from '../backup/restore/compare.ts';
import { keptName, openMaintenance } from '../backup/restore/new-database.ts';
import { inSession, startJobs } from '../backup/restore/pg-restore.ts';
import { requireRestorable } from '../backup/restore/requirements.ts';
import { type Restored, restoreDatabase } from '../backup/restore/restore.ts';
import { refuseSessions, swapDatabases } from '../backup/restore/swap.ts';
import { countingNumber } from '../cli/arguments.ts';
import { confirmDestruction, plural, printJson } from '../cli/output.ts';
import { dropDatabase } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';
import { defaultFolder } from './backup.ts';
import { databaseName } from './create.ts';
import { migrateCommand } from './status.ts';

interface RestoreCommandOptions {
  in: string;
  into?: string;
  force?: boolean;
  dropOld?: boolean;
  roles: boolean;
  jobs?: number;
  yes?: boolean;
  json?: boolean;
}

export function registerRestore(program: Command): void {
  saysWhere(program.command('restore'))
    .description('restore a backup into new databases, then swap them with the old ones')
    .argument('<from>', 'the folder of a backup, or "latest": the newest with the databases')
    .argument('[database...]', 'which; default: all that the backup holds')
    .option('--in <folder>', 'where "latest" looks', defaultFolder)
    .option('--into <name>', 'into a database of this name, beside the old one; name one database')
    .option('--force', 'end the sessions that use the old databases')
    .option('--drop-old', 'drop the old databases instead of keeping them under another name')
    .option('--no-roles', 'leave owners and grants out: all belongs to the connecting user')
    .option('--jobs <count>', 'tables and indexes at once (default: one for each processor)', countingNumber)
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action(restore);
}

/** A database to be restored. */
interface Target {
  readonly key: DatabaseTarget;
  readonly backup: DatabaseBackup;
  readonly name: string;
  readonly exists: boolean;
  readonly maintenance: Pool;
  readonly programs: ClientPrograms;
  readonly makesRoles: boolean;
}

interface Outcome {
  key: DatabaseTarget;
  database: string;
  rows: number;
  seconds: number;
  /** The new name of the old database; null if it was dropped or did not exist. */
  keptAs: string | null;
  pending: string[];
}

async function restore(from: string, names: string[], options: RestoreCommandOptions): Promise<void> {
  if (isProduction() && !options.yes) {
    throw new ConfigurationError('NODE_ENV is "production": restore replaces databases, so it needs --yes.');
  }
  const backup = await findBackup(from, resolve(options.in), names);
  const entries = selectEntries(backup, names, options);
  const pools: Pool[] = [];
  try {
    const targets = await prepare(backup, entries, pools, options);
    const replaced = targets.filter(({ exists }) => exists).map(({ name }) => name);
    if (replaced.length > 0) {
      const fate = options.dropOld ? 'dropped' : 'kept under another name';
      await confirmDestruction(
        `${replaced.join(', ')} will be replaced by the backup of ${backup.manifest.startedAt} and ${fate}.`,
        options.yes,
      );
    }
    const outcomes = await interruptible('The restore', (running) =>
      restoreAll(backup.folder, targets, { ...options, ...running }),
    );
    if (options.json) printJson({ folder: backup.folder, databases: outcomes });
    else for (const outcome of outcomes) report(outcome);
  } finally {
    for (const pool of pools) await pool.close();
  }
}

function selectEntries(
  { folder, manifest }: Backup,
  names: readonly string[],
  { into }: RestoreCommandOptions,
): { key: DatabaseTarget; backup: DatabaseBackup }[] {
  const named = selectTargets(names);
  const missing = named.filter(
    (key) => names.length > 0 && !manifest.databases.some((one) => one.key === key),
  );
  if (missing.length > 0) throw new BackupError(`${folder} does not hold ${missing.join(', ')}.`);
  const entries = named.flatMap((key) =>
    manifest.databases.filter((one) => one.key === key).map((backup) => ({ key, backup })),
  );
  if (into !== undefined && entries.length !== 1) {
    throw new ConfigurationError(
      '--into is the name of one database: name exactly one that is to be restored.',
    );
  }
  return entries;
}

/** Checks everything that can be checked before the first database is created. */
async function prepare(
  { folder }: Backup,
  entries: readonly { key: DatabaseTarget; backup: DatabaseBackup }[],
  pools: Pool[],
  { into, force, roles }: RestoreCommandOptions,
): Promise<Target[]> {
  const installed = await installedPrograms();
  const targets: Target[] = [];
  for (const { key, backup } of entries) {
    directUrl(key);
    const maintenance = openMaintenance(key);
    pools.push(maintenance);
    const { signal } = new AbortController();
    const ofMatrix = matrixRoles(matrixOf(key));
    const programs = await requireRestorable(folder, backup, maintenance, {
      installed,
      withRoles: roles,
      madeRoles: ofMatrix,
      signal,
    });
    const makesRoles = roles && backup.roles.some((role) => ofMatrix.includes(role));
    const name = into ?? databaseName(key);
    const { rowCount } = await maintenance.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    const exists = rowCount > 0;
    if (exists && into !== undefined) {
      throw new ConfigurationError(
        `--into is "${into}", and that database exists already: choose another name.`,
      );
    }
    if (exists && !force) await refuseSessions(maintenance, name);
    targets.push({ key, backup, name, exists, maintenance, programs, makesRoles });
  }
  return targets;
}

/** Restores all databases before it replaces the first one, because they belong to one backup. */
async function restoreAll(
  folder: string,
  targets: readonly Target[],
  options: RestoreCommandOptions & Running,
): Promise<Outcome[]> {
  const waiting: { target: Target; restored: Restored }[] = [];
  const outcomes: Outcome[] = [];
  const replaced: string[] = [];
  try {
    for (const target of targets) {
      const restored = await restoreDatabase(target.key, target.backup, target, {
        folder,
        programs: target.programs,
        withRoles: options.roles,
        makesRoles: target.makesRoles,
        jobs: options.jobs,
        signal: options.signal,
        progress: options.progress,
        onWarning: (text) => console.error(`${target.key.padEnd(8)}  ${text}`),
      });
      waiting.push({ target, restored });
      refuseDifferences(target, restored);
    }
    if (!options.force) {
      for (const { target } of waiting) await refuseSessions(target.maintenance, target.name);
    }
    options.signal.throwIfAborted();
    for (let next = waiting[0]; next; next = waiting[0]) {
      const onReplaced = (kept: string) =>
        replaced.push(`${next.target.key.padEnd(8)}  was replaced before this${kept}:`);
      outcomes.push(await replace(next.target, next.restored, options, onReplaced));
      waiting.shift();
    }
    return outcomes;
  } catch (error) {
    for (const { restored } of waiting) await restored.beside.drop();
    // The user must know that these databases are from the backup and the others are not.
    for (const line of replaced) console.error(line);
    throw error;
  }
}

// If the restored contents differ from the manifest, one of the two is wrong, so nothing is replaced.
function refuseDifferences({ key, backup }: Target, { contents }: Restored): void {
  const differences = compareContents(backup, contents);
  if (differences.length === 0) return;
  throw new BackupError(
    `${key}: what was restored is not what the manifest says, so it was dropped and nothing was replaced:\n  ${differences.join('\n  ')}`,
  );
}

async function replace(
  target: Target,
  restored: Restored,
  options: RestoreCommandOptions,
  onReplaced: (kept: string) => void,
): Promise<Outcome> {
  const { key, backup, name, exists, maintenance } = target;
  const keptAs = exists ? keptName(name, new Date()) : undefined;
  await swapDatabases(
    maintenance,
    { name, beside: restored.beside.name, keptAs },
    { force: options.force ?? false },
  );
  onReplaced(keptAs === undefined ? '' : `, the old database is ${keptAs}`);
  const dropped = keptAs !== undefined && options.dropOld === true;
  if (dropped) await dropDatabase(maintenance, keptAs);
  const url = withDatabase(restored.beside.url, name);
  await startJobs(url, backup);
  const { pending } = await inSession(url, (pool) => getMigrationStatus(pool, key));
  return {
    key,
    database: name,
    rows: rowsOf(backup),
    seconds: restored.restoreSeconds + restored.compareSeconds,
    keptAs: dropped ? null : (keptAs ?? null),
    pending: pending.map(({ tag }) => tag),
  };
}

function report({ key, database, rows, seconds, keptAs, pending }: Outcome): void {
  const tell = (text: string) => console.log(`${key.padEnd(8)}  ${text}`);
  tell(`${database} restored, ${plural(rows, 'row')} in ${seconds.toFixed(1)} s`);
  if (keptAs !== null) tell(`the old one is kept: DROP DATABASE ${quoteIdentifier(keptAs)}; drops it`);
  if (pending.length > 0) tell(`pending ${pending.join(', ')}: "${migrateCommand(key)}" applies them`);
}
