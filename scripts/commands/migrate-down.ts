// migrate down and migrate redo: take migrations back, after printing what that destroys.
import type { Command } from 'commander';
import { isProduction, ownDatabase } from '../../src/config.ts';
import type { DatabaseTarget } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { getMigrationStatus, redo, rollback } from '../../src/migrations/index.ts';
import { planRollback, type RollbackStep } from '../../src/migrations/runner.ts';
import type { Pool } from '../../src/pool.ts';
import { selectTarget } from '../../src/targets.ts';
import { findDestruction } from '../catalog/destruction.ts';
import { wholeNumber } from '../cli/arguments.ts';
import { confirmDestruction, printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { addRunOptions, libraryOptions, type RunOptions } from './migrate-options.ts';

interface DownOptions extends RunOptions {
  count?: number;
  to?: string;
  yes?: boolean;
}

export function registerMigrateDown(migrateCommand: Command): void {
  addRunOptions(migrateCommand.command('down'))
    .description('take back the latest migration of one database')
    .argument('[database]', "exactly one; default: the application's own")
    .option('--count <count>', 'how many to take back (default: 1)', wholeNumber)
    .option('--to <tag>', 'the migration that stays the latest applied')
    .option('--yes', 'do not ask; needed in production')
    .action(async (name: string | undefined, options: DownOptions) => {
      const key = selectOne(name);
      const reverted = await takeBack(key, options);
      if (options.json) printJson({ key, reverted });
    });
  addRunOptions(migrateCommand.command('redo'))
    .description('take back the latest migration of one database and apply it again')
    .argument('[database]', "exactly one; default: the application's own")
    .option('--yes', 'do not ask; needed in production')
    .action(async (name: string | undefined, options: DownOptions) => {
      const key = selectOne(name);
      const redone = await takeBack(key, { ...options, count: 1 }, redo);
      if (options.json) printJson({ key, redone });
    });
}

const selectOne = (name: string | undefined): DatabaseTarget =>
  name === undefined ? ownDatabase() : selectTarget(name);

async function takeBack(key: DatabaseTarget, options: DownOptions, run = rollback): Promise<string[]> {
  if (options.count !== undefined && options.to !== undefined) {
    throw new ConfigurationError('--count and --to say the same thing in two ways: give one of them.');
  }
  const { tell, ...common } = libraryOptions(key, run === redo ? 'done' : 'taken back', options);
  const which = { ...(options.count !== undefined && { count: options.count }), to: options.to };
  return withPool(key, async (pool) => {
    const steps = planRollback(await getMigrationStatus(pool, key), key, which);
    if (steps.length === 0) {
      tell('nothing to take back');
      return [];
    }
    await confirm(pool, key, steps, options.yes);
    // Only what was confirmed may run: another process may have migrated in the meantime.
    const expected = steps.map(({ migration }) => migration.tag);
    const done = await run(pool, key, { ...common, ...which, expected });
    return done.map(({ tag }) => tag);
  });
}

async function confirm(
  pool: Pool,
  key: DatabaseTarget,
  steps: readonly RollbackStep[],
  yes: boolean | undefined,
): Promise<void> {
  if (yes) return;
  const tags = steps.map(({ migration }) => migration.tag).join(', ');
  // Checked before `findDestruction`, which tries the rollback and briefly takes its locks.
  if (isProduction()) {
    throw new ConfigurationError(
      `NODE_ENV is production, so ${tags} of ${key} stays: add --yes to take it back with its tables and columns.`,
    );
  }
  await using session = pool.dedicated();
  const lost = await findDestruction(session, key, steps);
  const what = `Taking back ${tags} of ${key} destroys ${lost.join(', ') || 'no table and no column'}.`;
  await confirmDestruction(what, yes);
}
