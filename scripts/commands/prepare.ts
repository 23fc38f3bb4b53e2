// prepare: creates missing databases, migrates and seeds. Development only.
import type { Command } from 'commander';
import { selectTargets } from '../../src/targets.ts';
import { printJson, refuseProduction } from '../cli/output.ts';
import { saysWhere } from '../cli/where.ts';
import { createDatabase, databaseName } from './create.ts';
import { migrateDatabase } from './migrate.ts';
import { seedDatabase } from './seed.ts';

export function registerPrepare(program: Command): void {
  saysWhere(program.command('prepare'))
    .description('create what is missing, migrate, seed what is new; loses nothing (development only)')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action(async (names: string[], { json = false }: { json?: boolean }) => {
      refuseProduction('prepare');
      const results = [];
      for (const key of selectTargets(names)) {
        const created = await createDatabase(key, { access: true });
        if (created && !json) console.log(`${key.padEnd(8)}  ${databaseName(key)} created`);
        const { applied } = await migrateDatabase(key, { json });
        results.push({ key, created, applied, seeds: await seedDatabase(key, !json) });
      }
      if (json) printJson(results);
    });
}
