// migrate down and migrate redo: take migrations back, after saying what goes with them.
import type { Command } from 'commander';
import { isProduction, selectDatabases } from '../../src/config.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { findDestruction } from '../../src/migrations/destruction.ts';
import { getMigrationStatus, migrate, rollback } from '../../src/migrations/index.ts';
import { planRollback } from '../../src/migrations/runner.ts';
import type { Pool } from '../../src/pool.ts';
import { confirmDestruction, printJson } from '../output.ts';
import { withPool } from '../session.ts';
import { addRunOptions, libraryOptions, type RunOptions, wholeNumber } from './migrate.ts';

interface DownOptions extends RunOptions {
  count?: number;
  to?: string;
  yes?: boolean;
}

export function registerMigrateDown(migrateCommand: Command): void {
  addRunOptions(migrateCommand.command('down'))
    .description('take back the latest migration of one database')
    .argument('<database>', 'exactly one')
    .option('--count <count>', 'how many to take back (default: 1)', wholeNumber)
    .option('--to <tag>', 'the migration that stays the latest applied')
    .option('--yes', 'do not ask; needed in production')
    .action(async (name: string, options: DownOptions) => {
      const key = one(name);
      const reverted = await takeBack(key, options);
      if (options.json) printJson({ key, reverted });
    });
  addRunOptions(migrateCommand.command('redo'))
    .description('take back the latest migration of one database and apply it again')
    .argument('<database>', 'exactly one')
    .option('--yes', 'do not ask; needed in production')
    .action(async (name: string, options: DownOptions) => {
      const key = one(name);
      const [tag] = await takeBack(key, { ...options, count: 1 });
      const { tell: _, ...common } = libraryOptions(key, 'applied', options);
      const applied = tag ? await withPool(key, (pool) => migrate(pool, key, { ...common, to: tag })) : [];
      if (options.json) printJson({ key, redone: applied.map((migration) => migration.tag) });
    });
}

function one(name: string): DatabaseKey {
  const [key] = selectDatabases([name]);
  if (!key) throw new ConfigurationError('Name exactly one database.');
  return key;
}

async function takeBack(key: DatabaseKey, options: DownOptions): Promise<string[]> {
  if (options.count !== undefined && options.to !== undefined) {
    throw new ConfigurationError('--count and --to say the same thing in two ways: give one of them.');
  }
  const { tell, ...common } = libraryOptions(key, 'taken back', options);
  const which = { ...(options.count !== undefined && { count: options.count }), to: options.to };
  return withPool(key, async (pool) => {
    const steps = planRollback(await getMigrationStatus(pool, key), key, which);
    if (steps.length === 0) {
      tell('nothing to take back');
      return [];
    }
    await confirm(pool, key, steps, options.yes);
    const reverted = await rollback(pool, key, { ...common, ...which });
    return reverted.map(({ tag }) => tag);
  });
}

async function confirm(
  pool: Pool,
  key: DatabaseKey,
  steps: ReturnType<typeof planRollback>,
  yes: boolean | undefined,
): Promise<void> {
  if (yes) return;
  await using session = pool.dedicated();
  const lost = await findDestruction(
    session,
    steps.map(({ down }) => down),
  );
  const tags = steps.map(({ migration }) => migration.tag).join(', ');
  const what = `Taking back ${tags} of ${key} destroys ${lost.join(', ') || 'no table and no column'}.`;
  if (isProduction()) {
    throw new ConfigurationError(
      `${what} NODE_ENV is "production", so nothing was done: add --yes to go on.`,
    );
  }
  await confirmDestruction(what, yes);
}
