// migrate mark, repair and history: change and show the record of applied migrations, not the schema.
import type { Command } from 'commander';
import type { DatabaseTarget } from '../../src/databases.ts';
import {
  getMigrationStatus,
  markApplied,
  readHistory,
  repair,
  unmarkApplied,
} from '../../src/migrations/index.ts';
import { selectTarget, selectTargets } from '../../src/targets.ts';
import { confirmDestruction, printJson, printTable } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';

export function registerMigrateRecord(migrateCommand: Command): void {
  migrateCommand
    .command('mark')
    .description('record a migration as applied without running it, to adopt a database that exists')
    .argument('<database>', 'exactly one')
    .argument('<tag>', 'e.g. 0000_tables')
    .option('--undo', 'remove the record, as of a migration whose file was deleted; tables stay as they are')
    .option('--yes', 'do not ask')
    .action(async (name: string, tag: string, { undo, yes }: { undo?: boolean; yes?: boolean }) => {
      const key = selectTarget(name);
      if (!undo) {
        await withPool(key, (pool) => markApplied(pool, key, tag));
        console.log(`${key.padEnd(8)}  ${tag}  recorded as applied`);
        return;
      }
      await confirmDestruction(`${key} will forget that ${tag} was applied; what it made stays.`, yes);
      await withPool(key, (pool) => unmarkApplied(pool, key, tag));
      console.log(`${key.padEnd(8)}  ${tag}  is not recorded any more`);
    });
  migrateCommand
    .command('repair')
    .description('accept files that were edited after they were applied')
    .argument('[database...]', 'which; default: all')
    .option('--yes', 'do not ask')
    .action(async (names: string[], { yes }: { yes?: boolean }) => {
      for (const key of selectTargets(names)) await repairDatabase(key, yes);
    });
  migrateCommand
    .command('history')
    .description('who applied or took back what, when, from where')
    .argument('[database...]', 'which; default: all')
    .option('--json', 'print JSON')
    .action(async (names: string[], { json }: { json?: boolean }) => {
      const histories = [];
      for (const key of selectTargets(names)) {
        const entries = await withPool(key, readHistory);
        histories.push(...entries.map((entry) => ({ key, ...entry })));
      }
      if (json) return printJson(histories);
      printTable(
        ['database', 'migration', 'action', 'when (UTC)', 'took', 'result', 'by'],
        histories.map(({ key, tag, action, startedAt, durationMs, result, osUser, host }) => [
          key,
          tag,
          action,
          startedAt.toISOString().slice(0, 19).replace('T', ' '),
          `${durationMs} ms`,
          result,
          `${osUser}@${host}`,
        ]),
      );
    });
}

async function repairDatabase(key: DatabaseTarget, yes: boolean | undefined): Promise<void> {
  await withPool(key, async (pool) => {
    const { edited } = await getMigrationStatus(pool, key);
    if (edited.length === 0) return console.log(`${key.padEnd(8)}  nothing to repair`);
    printTable(
      ['migration', 'applied with hash', 'file has hash'],
      edited.map(({ migration, recordedHash }) => [migration.tag, recordedHash, migration.hash]),
    );
    await confirmDestruction(
      `The record of ${key} will say that these files were applied as they are now.`,
      yes,
    );
    const repaired = await repair(pool, key);
    for (const { migration } of repaired) console.log(`${key.padEnd(8)}  ${migration.tag}  accepted`);
  });
}
