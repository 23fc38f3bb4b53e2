// migrate: applies migrations, to independent databases in parallel. Subcommands take migrations back, record them, or
// show the status.
import type { Command } from 'commander';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { getMigrationStatus, type MigrateOptions, migrate } from '../../src/migrations/index.ts';
import { nameOfRow } from '../../src/migrations/state.ts';
import { selectTargets } from '../../src/targets.ts';
import { failureOf } from '../cli/arguments.ts';
import { printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';
import { reapplyAccess } from './create.ts';
import { registerMigrateDown } from './migrate-down.ts';
import { addRunOptions, libraryOptions, type RunOptions } from './migrate-options.ts';
import { registerMigrateRecord } from './migrate-record.ts';
import { appliedWithoutFile, printStatus, type StatusOptions } from './status.ts';

interface UpOptions extends RunOptions {
  to?: string;
  dryRun?: boolean;
  allowOutOfOrder?: boolean;
}

export function registerMigrate(program: Command): void {
  const command = saysWhere(program.command('migrate'))
    .description('apply migrations, take them back, see what is pending')
    .addHelpText('after', '\nWithout a command it is "up", whose options "migrate up --help" lists.');
  addRunOptions(command.command('up', { isDefault: true }))
    .description('apply pending migrations in order (the default)')
    .argument('[database...]', 'which; default: all, core first, then the others side by side')
    .option('--to <tag>', 'the last migration to apply; name one database')
    .option('--dry-run', 'say what would be applied')
    .option('--allow-out-of-order', 'apply migrations that are older than the latest applied one')
    .action(up);
  command
    .command('status')
    .description('the same as the command status')
    .argument('[database...]', 'which; default: all')
    .option('--check', 'exit 3 when anything is pending or wrong')
    .option('--json', 'print JSON')
    .action((names: string[], options: StatusOptions) => printStatus(names, options));
  registerMigrateDown(command);
  registerMigrateRecord(command);
}

interface Outcome {
  key: DatabaseTarget;
  applied: string[];
  error?: string;
  /** The dependency that failed or was skipped. Because of it, this database was not migrated. */
  skippedAfter?: string;
}

async function up(names: string[], options: UpOptions): Promise<void> {
  const keys = selectTargets(names);
  if (options.to !== undefined && keys.length !== 1) {
    throw new ConfigurationError('--to is a migration of one database: name exactly one.');
  }
  const exitCodes: number[] = [];
  const outcomes = await inDependencyOrder(keys, async (key, failed): Promise<Outcome> => {
    if (failed !== undefined) {
      if (!options.json) console.error(`${key.padEnd(8)}  not started, because ${failed} failed`);
      return { key, applied: [], skippedAfter: failed };
    }
    const applied: string[] = [];
    try {
      return await migrateDatabase(key, options, (tag) => applied.push(tag));
    } catch (error) {
      const { message, exitCode } = failureOf(error);
      exitCodes.push(exitCode);
      if (!options.json) console.error(message);
      return { key, applied, error: message };
    }
  });
  if (options.json) printJson(outcomes);
  if (exitCodes.length > 0) process.exitCode = exitCodes.includes(1) ? 1 : Math.max(...exitCodes);
}

/** Runs each database after the databases that it depends on. Independent databases run in parallel. */
async function inDependencyOrder(
  keys: readonly DatabaseTarget[],
  run: (key: DatabaseTarget, failed: string | undefined) => Promise<Outcome>,
): Promise<Outcome[]> {
  const running = new Map<string, Promise<Outcome>>();
  for (const key of keys) {
    const dependencies = definitionOf(key).dependsOn.flatMap((name) => running.get(name) ?? []);
    const start = async () => {
      const failed = (await Promise.all(dependencies)).find(
        ({ error, skippedAfter }) => error ?? skippedAfter,
      );
      return run(key, failed?.key);
    };
    running.set(key, start());
  }
  return Promise.all(running.values());
}

/** Applies the pending migrations of one database, and the access matrix to new objects. */
export async function migrateDatabase(
  key: DatabaseTarget,
  options: UpOptions,
  onApplied?: (tag: string) => void,
): Promise<Outcome> {
  const { tell, ...common } = libraryOptions(key, 'applied', options);
  const library: MigrateOptions = {
    ...common,
    onDone: (migration, milliseconds) => {
      onApplied?.(migration.tag);
      common.onDone(migration, milliseconds);
    },
    to: options.to,
    allowOutOfOrder: options.allowOutOfOrder,
    dryRun: options.dryRun,
  };
  return withPool(key, async (pool) => {
    const { orphaned } = await getMigrationStatus(pool, key);
    if (orphaned.length > 0) tell(appliedWithoutFile(key, orphaned.map(nameOfRow)));
    const applied = await migrate(pool, key, library);
    if (options.dryRun) for (const { tag } of applied) tell(`${tag}  would be applied`);
    if (applied.length === 0) tell('nothing to do');
    if (!options.dryRun) await reapplyAccess(pool, key);
    return { key, applied: applied.map(({ tag }) => tag) };
  });
}
