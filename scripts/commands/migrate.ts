// migrate: applies pending migrations, core first, then tracking, then the applications.
import type { Command } from 'commander';
import { selectDatabases } from '../../src/config.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { migrate } from '../../src/migrations/index.ts';
import { printJson } from '../output.ts';
import { withPool } from '../session.ts';
import { printStatus, type StatusOptions } from './status.ts';

export function registerMigrate(program: Command): void {
  const command = program.command('migrate').description('apply migrations, or see what is pending');
  command
    .command('up', { isDefault: true })
    .description('apply pending migrations in order (the default)')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action(async (names: string[], { json }: { json?: boolean }) => {
      const results = [];
      for (const key of selectDatabases(names)) results.push(await migrateDatabase(key, !json));
      if (json) printJson(results);
    });
  command
    .command('status')
    .description('the same as the command status')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action((names: string[], options: StatusOptions) => printStatus(names, options));
}

/** Applies what is pending in one database, telling each step on the terminal when `verbose`. */
export async function migrateDatabase(
  key: DatabaseKey,
  verbose: boolean,
): Promise<{ key: DatabaseKey; applied: string[] }> {
  return withPool(key, async (pool) => {
    const applied = await migrate(pool, key, {
      onApplied: ({ tag }, milliseconds) => {
        if (verbose) console.log(`${key.padEnd(8)}  ${tag}  applied in ${Math.round(milliseconds)} ms`);
      },
    });
    if (verbose && applied.length === 0) console.log(`${key.padEnd(8)}  nothing to do`);
    return { key, applied: applied.map(({ tag }) => tag) };
  });
}
