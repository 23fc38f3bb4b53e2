// seed: runs the TypeScript files of scripts/seeds/<database>/ in alphabetical order.
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { type DatabaseTarget, keyOf } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { SeedFunction } from '../../src/seed.ts';
import { selectTargets } from '../../src/targets.ts';
import { plural, printJson, refuseProduction } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';

// In the built package, the seeds are .js files.
const seedsFolder = join(dirname(fileURLToPath(import.meta.url)), '..', 'seeds');

export function registerSeed(program: Command): void {
  saysWhere(program.command('seed'))
    .description('fill the databases with development rows; running it again changes nothing')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action(async (names: string[], { json }: { json?: boolean }) => {
      refuseProduction('seed');
      const results = [];
      for (const key of selectTargets(names)) results.push({ key, seeds: await seedDatabase(key, !json) });
      if (json) printJson(results);
    });
}

export interface Seeded {
  file: string;
  /** Number of added rows; null if the seed does not return one. */
  added: number | null;
}

/**
 * Runs the seeds of one database.
 * @throws ConfigurationError for a file whose default export is missing or not a function.
 */
export async function seedDatabase(key: DatabaseTarget, verbose: boolean): Promise<Seeded[]> {
  const folder = join(seedsFolder, keyOf(key));
  const files = existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => /(?<!\.d)\.(ts|js)$/.test(name))
        .sort()
    : [];
  const seeded: Seeded[] = [];
  await withPool(key, async (pool) => {
    for (const file of files) {
      const module = (await import(pathToFileURL(join(folder, file)).href)) as { default?: SeedFunction };
      if (typeof module.default !== 'function') {
        throw new ConfigurationError(
          `${join(folder, file)} has no default export of type SeedFunction: add "export default seed".`,
        );
      }
      const added = (await module.default(pool)) ?? null;
      seeded.push({ file, added });
      if (verbose) console.log(`${key.padEnd(8)}  ${file}  ${describeAdded(added)}`);
    }
  });
  if (verbose && files.length === 0) console.log(`${key.padEnd(8)}  no seeds`);
  return seeded;
}

function describeAdded(added: number | null): string {
  if (added === null) return 'done';
  return added === 0 ? 'nothing new' : `${plural(added, 'row')} added`;
}
