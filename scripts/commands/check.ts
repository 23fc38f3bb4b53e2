// check: tests that the schema, the migrations and their down files match.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type DatabaseKey, type DatabaseTarget, definitionOf, keyOf } from '../../src/databases.ts';
import { ConnectionError, MigrationError, TimescaleMissingError } from '../../src/errors.ts';
import { migrate, readMigrations, rollback } from '../../src/migrations/index.ts';
import {
  downPath,
  irreversibleReason,
  isEmpty,
  readFolder,
  unfinishedMark,
} from '../../src/migrations/journal.ts';
import type { Pool } from '../../src/pool.ts';
import { selectTargets } from '../../src/targets.ts';
import { comparePolicies } from '../../src/tracking/compare-policies.ts';
import { differences, readCatalog } from '../catalog/catalog.ts';
import { printJson } from '../cli/output.ts';
import { withPool, withScratchDatabase } from '../cli/pools.ts';
import { compareWithSchema } from '../drizzle-kit/compare-schema.ts';

interface CheckOptions {
  offline?: boolean;
  json?: boolean;
}

export function registerCheck(program: Command): void {
  program
    .command('check')
    .description(
      'prove schema, migrations and their downs: on files, then up, down, up again on a scratch database',
    )
    .argument('[database...]', 'which; default: all')
    .option('--offline', 'only what needs no server')
    .option('--json', 'print JSON')
    .action(async (names: string[], options: CheckOptions) => {
      const results = [];
      for (const key of selectTargets(names)) {
        const problems = [...checkFiles(keyOf(key)), ...(await compareWithSchema(keyOf(key)))];
        // Migrations whose files have problems are not run.
        if (problems.length === 0 && !options.offline) {
          problems.push(...(await proveDowns(key)), ...(await checkPolicies(key)));
        }
        results.push({ key, problems });
        if (!options.json) report(key, problems, options.offline);
      }
      if (options.json) printJson(results);
      if (results.some(({ problems }) => problems.length > 0)) process.exitCode = 3;
    });
}

function report(key: DatabaseTarget, problems: readonly string[], offline: boolean | undefined): void {
  const proven = offline
    ? 'schema and migrations are in step'
    : 'in step; up, down, up again leaves the same catalog';
  if (problems.length === 0) console.log(`${key.padEnd(8)}  ${proven}`);
  for (const problem of problems) console.error(`${key.padEnd(8)}  ${problem}`);
}

function checkFiles(key: DatabaseKey): string[] {
  const { migrations, problems } = readFolder(key);
  const downs = migrations.flatMap((migration) => {
    const path = downPath(migration);
    if (!existsSync(path))
      return [
        `${path} does not exist. "npm run db:generate -- ${key}" writes it, as far as it can be derived.`,
      ];
    if (readFileSync(path, 'utf8').includes(unfinishedMark))
      return [`${path} is a stub: finish what it says "${unfinishedMark}" of.`];
    return [];
  });
  const empty = migrations
    .filter(isEmpty)
    .map(
      ({ path }) =>
        `${path} holds no statement: write what it is to do, or delete it with its entry in the journal.`,
    );
  return [...problems, ...empty, ...downs];
}

/** Applies each migration. Unless it is irreversible, takes it back, applies it again and compares the catalogs. */
async function proveDowns(key: DatabaseTarget): Promise<string[]> {
  const scratch = `atriz_check_${keyOf(key)}_${randomBytes(4).toString('hex')}`;
  return withScratchDatabase(key, scratch, (pool) => prove(pool, key));
}

async function prove(pool: Pool, key: DatabaseTarget): Promise<string[]> {
  let before = await readCatalog(pool);
  for (const { tag, path } of readMigrations(key)) {
    try {
      await migrate(pool, key, { to: tag });
      const after = await readCatalog(pool);
      if (irreversibleReason(readFileSync(downPath({ path }), 'utf8')) === undefined) {
        await rollback(pool, key);
        const down = differences(`${tag}.down.sql`, before, await readCatalog(pool));
        // Later differences would only result from these.
        if (down.length > 0) return down;
        await migrate(pool, key, { to: tag });
        const again = differences(`${tag}.sql, applied again,`, after, await readCatalog(pool));
        if (again.length > 0) return again;
      }
      before = after;
    } catch (error) {
      if (!(error instanceof MigrationError)) throw error;
      return [error.message];
    }
  }
  return [];
}

/** Compares the live database's policies with their declaration. A missing database has no differences. */
async function checkPolicies(key: DatabaseTarget): Promise<string[]> {
  const { database, extensions } = definitionOf(key);
  if (!extensions.includes('timescaledb')) return [];
  try {
    const found = await withPool(key, comparePolicies);
    return found.map(
      ({ relation, setting, declared, found }) =>
        `${database}: ${setting} of ${relation} is ${found ?? 'not set'}, declared is ${declared ?? 'nothing'}: ` +
        'change it in a migration, or the declaration in schema/tracking.ts.',
    );
  } catch (error) {
    const isAbsent = error instanceof ConnectionError && error.code === '3D000';
    if (isAbsent || error instanceof TimescaleMissingError) return [];
    throw error;
  }
}
