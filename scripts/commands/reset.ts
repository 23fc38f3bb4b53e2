// reset: drops, creates, migrates and seeds databases. Development only.
import type { Command } from 'commander';
import { selectTargets } from '../../src/targets.ts';
import { printJson, refuseProduction } from '../cli/output.ts';
import { dropDatabase, withMaintenance } from '../cli/pools.ts';
import { confirmLoss, saysWhere } from '../cli/where.ts';
import { createDatabase, databaseName, lacksAccess } from './create.ts';
import { migrateDatabase } from './migrate.ts';
import { seedDatabase } from './seed.ts';

export function registerReset(program: Command): void {
  saysWhere(program.command('reset'))
    .description('drop, create, migrate and seed (development only)')
    .argument('[database...]', 'which; default: all')
    .option('--yes', 'do not ask')
    .option('--host <name>', 'with --yes: the server, where it is not this machine')
    .option('--json', 'print JSON')
    .action(async (names: string[], options: { yes?: boolean; host?: string; json?: boolean }) => {
      refuseProduction('reset');
      const keys = selectTargets(names);
      // If a server cannot be reached, no database is dropped.
      for (const key of keys) await withMaintenance(key, (pool) => pool.query('SELECT 1'));
      await confirmLoss(keys, 'will be dropped with all rows', options);
      const results = [];
      for (const key of keys) {
        const access = !(await lacksAccess(key));
        await withMaintenance(key, (pool) => dropDatabase(pool, databaseName(key)));
        await createDatabase(key, { access });
        if (!options.json) console.log(`${key.padEnd(8)}  dropped and created`);
        const { applied } = await migrateDatabase(key, { json: options.json ?? false });
        results.push({ key, applied, seeds: await seedDatabase(key, !options.json) });
      }
      if (options.json) printJson(results);
    });
}
