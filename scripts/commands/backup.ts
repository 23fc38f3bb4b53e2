// backup: dumps databases into one folder with a manifest; lists backups and removes old ones.
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { databaseTargets, selectTargets } from '../../src/targets.ts';
import { makeBackup } from '../backup/create/backup.ts';
import { removeComplete } from '../backup/create/run-folder.ts';
import { interruptible } from '../backup/interruptible.ts';
import { type Backup, listBackups } from '../backup/library/backups.ts';
import { rowsOf } from '../backup/library/manifest.ts';
import { outdated } from '../backup/library/retention.ts';
import { countingNumber } from '../cli/arguments.ts';
import { formatBytes, formatCount, plural, printJson, printTable } from '../cli/output.ts';
import { saysWhere } from '../cli/where.ts';

interface BackupCommandOptions {
  to: string;
  includeTracking?: boolean;
  schemaOnly?: boolean;
  jobs?: number;
  keepDaily?: number;
  keepWeekly?: number;
  list?: boolean;
  json?: boolean;
}

export const defaultFolder = 'backups';

export function registerBackup(program: Command): void {
  saysWhere(program.command('backup'))
    .description('dump databases into one folder with a manifest; the critical ones unless others are named')
    .argument('[database...]', 'which; default: core and the applications')
    .option('--to <folder>', 'where the folders of backups are', defaultFolder)
    .option('--include-tracking', 'tracking too, with its points')
    .option('--schema-only', 'tracking too, without its points: tables, policies and record of migrations')
    .option('--jobs <count>', 'databases at once (default: one for each processor)', countingNumber)
    .option('--keep-daily <count>', 'afterwards, remove all but the newest of so many days', countingNumber)
    .option('--keep-weekly <count>', 'the same, of so many weeks; the newest is always kept', countingNumber)
    .option('--list', 'list the complete backups instead')
    .option('--json', 'print JSON')
    .action((names: string[], options: BackupCommandOptions) =>
      options.list ? printBackups(options) : backup(names, options),
    );
}

/**
 * Selects the named databases, or all critical databases if none is named. --include-tracking and --schema-only add
 * the databases that are not critical.
 */
export function selectForBackup(
  names: readonly string[],
  { includeTracking, schemaOnly }: Pick<BackupCommandOptions, 'includeTracking' | 'schemaOnly'>,
): DatabaseTarget[] {
  const named = new Set(selectTargets(names));
  const isAsked = (key: DatabaseTarget) => names.length > 0 && named.has(key);
  return databaseTargets().filter((key) =>
    definitionOf(key).backup.critical ? named.has(key) : isAsked(key) || includeTracking || schemaOnly,
  );
}

async function backup(names: readonly string[], options: BackupCommandOptions): Promise<void> {
  if (options.schemaOnly && options.includeTracking) {
    throw new ConfigurationError(
      '--include-tracking takes the points and --schema-only leaves them: use one.',
    );
  }
  const to = resolve(options.to);
  const made = await interruptible('The backup', (running) =>
    makeBackup(selectForBackup(names, options), {
      to,
      jobs: options.jobs || availableParallelism(),
      holds: (key) => (options.schemaOnly && !definitionOf(key).backup.critical ? 'structure' : 'everything'),
      ...running,
    }),
  );
  const removed = await prune(to, options);
  if (options.json) {
    printJson({ ...summary(made), removed: removed.map(({ folder }) => folder) });
    return;
  }
  printTable(
    ['database', 'rows', 'database size', 'backup', 'time'],
    made.manifest.databases.map((database) => [
      database.key,
      database.holds === 'structure' ? 'none, by --schema-only' : formatCount(rowsOf(database)),
      formatBytes(database.databaseBytes),
      formatBytes(database.dump.bytes),
      `${database.seconds.toFixed(1)} s`,
    ]),
  );
  console.log(made.folder);
  if (removed.length > 0) console.log(`${plural(removed.length, 'older backup')} removed.`);
}

async function prune(to: string, { keepDaily, keepWeekly }: BackupCommandOptions): Promise<Backup[]> {
  if (keepDaily === undefined && keepWeekly === undefined) return [];
  const { backups } = await listBackups(to);
  const old = outdated(backups, { daily: keepDaily ?? 0, weekly: keepWeekly ?? 0 });
  for (const one of old) await removeComplete(one.folder);
  return old;
}

const summary = ({ folder, manifest }: Backup) => ({
  folder,
  startedAt: manifest.startedAt,
  finishedAt: manifest.finishedAt,
  databases: manifest.databases.map((database) => ({
    key: database.key,
    database: database.database,
    holds: database.holds,
    rows: rowsOf(database),
    bytes: database.dump.bytes,
    databaseBytes: database.databaseBytes,
    seconds: database.seconds,
  })),
});

async function printBackups({ to, json }: BackupCommandOptions): Promise<void> {
  const parent = resolve(to);
  const { backups, damaged } = await listBackups(parent);
  for (const { folder, reason } of damaged) console.error(`${folder} is not listed: ${reason}`);
  if (json) {
    printJson(backups.map((one) => ({ ...summary(one), ageSeconds: Math.round(ageOf(one)) })));
    return;
  }
  if (backups.length === 0) {
    console.log(`There is no backup in ${parent}.`);
    return;
  }
  printTable(
    ['backup', 'age', 'size', 'databases'],
    backups.map((one) => [
      one.folder,
      formatAge(ageOf(one)),
      formatBytes(one.manifest.databases.reduce((sum, { dump }) => sum + dump.bytes, 0)),
      one.manifest.databases
        .map(({ key, holds }) => (holds === 'structure' ? `${key} (without rows)` : key))
        .join(', '),
    ]),
  );
}

const ageOf = ({ manifest }: Backup) => (Date.now() - Date.parse(manifest.startedAt)) / 1000;

function formatAge(seconds: number): string {
  if (seconds < 3600) return plural(Math.floor(seconds / 60), 'minute');
  if (seconds < 48 * 3600) return plural(Math.floor(seconds / 3600), 'hour');
  return plural(Math.floor(seconds / 86_400), 'day');
}
