// drill: tests backups. Dumps databases, restores them under new names, compares them and drops the copies.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type DatabaseTarget, isDatabaseTarget } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { selectTargets } from '../../src/targets.ts';
import { withDumps } from '../backup/create/backup.ts';
import { BackupError } from '../backup/errors.ts';
import { interruptible, type Running } from '../backup/interruptible.ts';
import { findBackup, readCatalogLines } from '../backup/library/backups.ts';
import { recordDrills } from '../backup/library/drills.ts';
import { type DatabaseBackup, rowsOf } from '../backup/library/manifest.ts';
import { withRestored } from '../backup/restore/beside.ts';
import { compareContents, compareProperties, differs } from '../backup/restore/compare.ts';
import type { Restored } from '../backup/restore/restore.ts';
import { formatBytes, formatCount, printJson, printTable } from '../cli/output.ts';
import { saysWhere } from '../cli/where.ts';
import { defaultFolder, selectForBackup } from './backup.ts';

interface DrillOptions {
  from?: string;
  to: string;
  includeTracking?: boolean;
  json?: boolean;
}

interface Outcome {
  key: DatabaseTarget;
  /** What differs or prevents a restore; empty if the backup works. */
  problems: string[];
  rows: number;
  databaseBytes: number;
  backupBytes: number;
  backupSeconds: number;
  restoreSeconds: number | null;
  compareSeconds: number | null;
}

export function registerDrill(program: Command): void {
  saysWhere(program.command('drill'))
    .description('prove backups: dump, restore beside, compare, drop; exit 3 when something differs')
    .argument('[database...]', 'which; default: core and the applications, or all that --from holds')
    .option('--from <backup>', 'a backup that exists, or "latest": compare with what its manifest says')
    .option('--to <folder>', 'where backups are, or the dumps stand meanwhile', defaultFolder)
    .option('--include-tracking', 'tracking too')
    .option('--json', 'print JSON')
    .action(drill);
}

async function drill(names: string[], options: DrillOptions): Promise<void> {
  const to = resolve(options.to);
  const outcomes = await interruptible('The drill', async (running) => {
    if (options.from !== undefined) return drillExisting(options.from, to, names, running);
    const keys = selectForBackup(names, options);
    return withDumps(keys, { to, ...running }, ({ path }, { databases }) =>
      drillAll(path, databases, running),
    );
  });
  await record(to, outcomes);
  if (options.json) printJson(outcomes);
  else report(outcomes);
  if (outcomes.some(({ problems }) => problems.length > 0)) process.exitCode = 3;
}

/** Records the drill for db:report. A failure is only printed: this user may lack the right to write to the folder. */
async function record(parent: string, outcomes: readonly Outcome[]): Promise<void> {
  const at = new Date().toISOString();
  const done = outcomes.map(({ key, problems }) => [key, { at, problems: problems.length }]);
  try {
    await recordDrills(parent, Object.fromEntries(done));
  } catch (error) {
    console.error(`The drill was not recorded for db:report: ${(error as Error).message}`);
  }
}

async function drillExisting(
  from: string,
  parent: string,
  names: readonly string[],
  running: Running,
): Promise<Outcome[]> {
  const { folder, manifest } = await findBackup(from, parent, names);
  const named = selectTargets(names);
  const held = manifest.databases.filter(({ key }) => isDatabaseTarget(key));
  const missing = named.filter((key) => names.length > 0 && !held.some((one) => one.key === key));
  if (missing.length > 0) throw new ConfigurationError(`${folder} does not hold ${missing.join(', ')}.`);
  return drillAll(
    folder,
    held.filter(({ key }) => named.some((one) => one === key)),
    running,
  );
}

async function drillAll(
  folder: string,
  databases: readonly DatabaseBackup[],
  running: Running,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const backup of databases) {
    const key = backup.key as DatabaseTarget;
    outcomes.push({
      key,
      rows: rowsOf(backup),
      databaseBytes: backup.databaseBytes,
      backupBytes: backup.dump.bytes,
      backupSeconds: backup.seconds,
      ...(await drillOne(key, folder, backup, running)),
    });
  }
  return outcomes;
}

/** A BackupError becomes a problem in the outcome. Other errors, such as lost connections, are thrown. */
async function drillOne(
  key: DatabaseTarget,
  folder: string,
  backup: DatabaseBackup,
  running: Running,
): Promise<Pick<Outcome, 'problems' | 'restoreSeconds' | 'compareSeconds'>> {
  try {
    return await withRestored(key, folder, backup, running, async (restored, warnings) => ({
      problems: [...warnings, ...(await findDifferences(folder, backup, restored))],
      restoreSeconds: restored.restoreSeconds,
      compareSeconds: restored.compareSeconds,
    }));
  } catch (error) {
    if (!(error instanceof BackupError) || running.signal.aborted) throw error;
    return { problems: [error.message], restoreSeconds: null, compareSeconds: null };
  }
}

async function findDifferences(
  folder: string,
  backup: DatabaseBackup,
  { contents }: Restored,
): Promise<string[]> {
  // Another major version may print the definition of the same view or constraint differently.
  const catalog =
    contents.server.major === backup.server.major
      ? differs('catalog', await readCatalogLines(folder, backup), contents.catalog)
      : [];
  return [
    ...compareContents(backup, contents),
    ...catalog,
    ...compareProperties(backup.properties, contents.properties),
  ];
}

function report(outcomes: readonly Outcome[]): void {
  const seconds = (value: number | null) => (value === null ? '-' : `${value.toFixed(1)} s`);
  printTable(
    ['database', 'rows', 'size', 'backup', 'dumped in', 'restored in', 'compared in', 'result'],
    outcomes.map((outcome) => [
      outcome.key,
      formatCount(outcome.rows),
      formatBytes(outcome.databaseBytes),
      formatBytes(outcome.backupBytes),
      seconds(outcome.backupSeconds),
      seconds(outcome.restoreSeconds),
      seconds(outcome.compareSeconds),
      outcome.problems.length === 0 ? 'the same' : 'DIFFERS',
    ]),
  );
  for (const { key, problems } of outcomes) {
    for (const problem of problems) console.error(`${key.padEnd(8)}  ${problem}`);
  }
}
