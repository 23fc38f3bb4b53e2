// clean: empties all tables of the schema public, and keeps the structure and the record of migrations.

import type { Command } from 'commander';
import type { DatabaseTarget } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { selectTargets } from '../../src/targets.ts';
import { readTimescale, storedRelations } from '../../src/timescale/catalog.ts';
import { printJson, refuseProduction } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { confirmLoss, saysWhere } from '../cli/where.ts';

export function registerClean(program: Command): void {
  saysWhere(program.command('clean'))
    .description('empty all tables and reset their sequences (development only)')
    .argument('[database...]', 'which; default: all')
    .option('--yes', 'do not ask')
    .option('--host <name>', 'with --yes: the server, where it is not this machine')
    .option('--json', 'print JSON')
    .action(async (names: string[], options: { yes?: boolean; host?: string; json?: boolean }) => {
      refuseProduction('clean');
      const keys = selectTargets(names);
      // If a database cannot be reached, none is emptied.
      for (const key of keys) await withPool(key, (pool) => pool.query('SELECT 1'));
      await confirmLoss(keys, 'will lose all rows', options);
      const results = [];
      for (const key of keys) {
        const tables = await cleanDatabase(key);
        results.push({ key, tables });
        if (!options.json)
          console.log(`${key.padEnd(8)}  emptied ${tables.join(', ') || 'nothing: it has no tables'}`);
      }
      if (options.json) printJson(results);
    });
}

/** Truncates all tables and continuous aggregates of the schema public. @returns their names. */
async function cleanDatabase(key: DatabaseTarget): Promise<string[]> {
  return withPool(key, async (pool) => {
    // Tables of extensions belong to the structure. The record of migrations is in another schema.
    const tables = await pool.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_class c
       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
         AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       ORDER BY 1`,
    );
    const names = [...tables.rows, ...(await continuousAggregates(pool))].map(({ name }) => name);
    if (names.length === 0) return [];
    const relations = names.map((name) => `public.${quoteIdentifier(name)}`).join(', ');
    // One statement, so that foreign keys require no order and either all tables are emptied or none.
    await pool.query(`TRUNCATE ${relations} RESTART IDENTITY CASCADE`);
    return names;
  });
}

async function continuousAggregates(pool: Pool) {
  if (!(await readTimescale(pool))) return [];
  const { rows } = await pool.query<{ name: string }>(
    `SELECT name FROM ${storedRelations} AS r WHERE "isAggregate" AND schema = 'public' ORDER BY 1`,
  );
  return rows;
}
