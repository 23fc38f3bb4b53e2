// reset: drops, creates, migrates and seeds. Development only.
import type { Command } from 'commander';
import { selectDatabases } from '../../src/config.ts';
import { confirmDestruction, printJson, refuseProduction } from '../cli/output.ts';
import { withMaintenance } from '../cli/pools.ts';
import { createDatabase, databaseName, dropDatabase, lacksAccess } from './create.ts';
import { migrateDatabase } from './migrate.ts';
import { seedDatabase } from './seed.ts';

export function registerReset(program: Command): void {
  program
    .command('reset')
    .description('drop, create, migrate and seed (development only)')
    .argument('[database...]', 'which; default: all')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action(async (names: string[], { yes, json }: { yes?: boolean; json?: boolean }) => {
      refuseProduction('reset');
      const keys = selectDatabases(names);
      await confirmDestruction(
        `${keys.map(databaseName).join(', ')} will be dropped with all their rows.`,
        yes,
      );
      // All servers answer, or none of the databases is dropped.
      for (const key of keys) await withMaintenance(key, (pool) => pool.query('SELECT 1'));
      const results = [];
      for (const key of keys) {
        const access = !(await lacksAccess(key));
        await dropDatabase(key);
        await createDatabase(key, { access });
        if (!json) console.log(`${key.padEnd(8)}  dropped and created`);
        const { applied } = await migrateDatabase(key, { json: json ?? false });
        results.push({ key, applied, seeds: await seedDatabase(key, !json) });
      }
      if (json) printJson(results);
    });
}
