// references: finds rows whose user does not exist in atriz_core.
import type { Command } from 'commander';
import type { DatabaseTarget } from '../../src/databases.ts';
import { findOrphans, type OrphanReport } from '../../src/references/orphans.ts';
import { selectTargets } from '../../src/targets.ts';
import { wholeNumber } from '../cli/arguments.ts';
import { formatCount, plural, printJson, printTable } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { saysWhere } from '../cli/where.ts';

interface ReferencesOptions {
  samples: number;
  json?: boolean;
}

export function registerReferences(program: Command): void {
  saysWhere(program.command('references'))
    .description('find rows whose user does not exist in atriz_core; exit 3 if there are any')
    .argument('[database...]', 'which; default: all')
    .option('--samples <count>', 'how many of them to show for each column', wholeNumber, 5)
    .option('--json', 'print JSON')
    .action(async (names: string[], { samples, json }: ReferencesOptions) => {
      const reports = await checkReferences(selectTargets(names), samples);
      if (json) printJson(reports);
      else printReport(reports);
      if (reports.some(({ orphans }) => orphans > 0)) process.exitCode = 3;
    });
}

async function checkReferences(keys: readonly DatabaseTarget[], samples: number): Promise<OrphanReport[]> {
  const payload = { what: 'atriz_core', users: '0' };
  using bar = startBar('{what} | {users} users', 0, payload, { isLasting: false });
  return await withPool('core', async (core) => {
    const reports = [];
    for (const key of keys.filter((other) => other !== 'core')) {
      const onProgress = ({ relation, column, users }: OrphanReport) =>
        bar.update(0, { what: `${key} ${relation}.${column}`, users: formatCount(users) });
      reports.push(...(await withPool(key, (pool) => findOrphans(core, pool, { key, samples, onProgress }))));
    }
    return reports;
  });
}

function printReport(reports: readonly OrphanReport[]): void {
  if (reports.length === 0) {
    console.log('core keeps its own references true, with foreign keys: nothing to check.');
    return;
  }
  printTable(
    ['database', 'column', 'users', 'orphans', 'rows'],
    reports.map(({ database, relation, column, users, orphans, rows }) => [
      database,
      `${relation}.${column}`,
      formatCount(users),
      formatCount(orphans),
      formatCount(rows),
    ]),
  );
  const wrong = reports.filter(({ orphans }) => orphans > 0);
  if (wrong.length === 0) return;
  for (const { database, relation, column, orphans, samples } of wrong) {
    console.log(`\n${database} ${relation}.${column}:`);
    for (const { userId, rows } of samples) console.log(`  ${userId}  ${plural(rows, 'row')}`);
    if (orphans > samples.length) console.log(`  … and ${formatCount(orphans - samples.length)} more`);
  }
  console.log(
    '\nThese users do not exist in atriz_core: "npm run db:erase-user -- <user-id>" removes what is left of one.',
  );
}
