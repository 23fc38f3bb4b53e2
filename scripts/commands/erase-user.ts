// erase-user: deletes or anonymises a person in all databases, or counts what would change.

import type { Command } from 'commander';
import {
  type ErasurePools,
  type ErasureProgress,
  type ErasureReport,
  eraseUser,
} from '../../src/erasure/erase.ts';
import { UserReferenceError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { databaseTargets } from '../../src/targets.ts';
import { readKeptDatabases } from '../backup/restore/new-database.ts';
import { wholeNumber } from '../cli/arguments.ts';
import { confirmDestruction, formatCount, plural, printJson, printTable } from '../cli/output.ts';
import { withPools } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { saysWhere } from '../cli/where.ts';

interface EraseUserOptions {
  yes?: boolean;
  dryRun?: boolean;
  grace: number;
  json?: boolean;
}

export function registerEraseUser(program: Command): void {
  saysWhere(program.command('erase-user'))
    .description('delete or anonymise a person in all databases; run again after a crash, it finishes')
    .argument('<user>', 'user id, or e-mail address')
    .option('--yes', 'do not ask')
    .option('--dry-run', 'count what would change, change nothing')
    .option(
      '--grace <seconds>',
      'how long services may have remembered the person as active',
      wholeNumber,
      60,
    )
    .option('--json', 'print JSON')
    .action(eraseUserCommand);
}

async function eraseUserCommand(user: string, options: EraseUserOptions): Promise<void> {
  const { yes, dryRun, grace, json } = options;
  const { report, kept } = await withPools(databaseTargets(), async (pools) => {
    const report = await erase(pools);
    return { report, kept: await keptDatabases(pools) };
  });
  if (json) printJson({ ...report, keptDatabases: kept });
  else {
    printReport(report);
    if (kept.length > 0) {
      console.log(
        `Databases that restores kept may still hold the person; drop them: ${kept.map(quoteIdentifier).join(', ')}.`,
      );
    }
  }

  async function erase(pools: ErasurePools): Promise<ErasureReport> {
    const userId = user.includes('@') ? await findByEmail(pools.core, user) : user;
    const planned = await eraseUser(pools, userId, { dryRun: true });
    if (dryRun) return planned;
    if (planned.rows === 0) return { ...planned, isDryRun: false };
    if (!json && !yes) printRows(planned);
    const what = `${plural(planned.rows, 'row')} of user ${planned.userId} will be deleted or anonymised for good.`;
    await confirmDestruction(what, yes);
    try {
      return await withBar(planned.rows, (onProgress) =>
        eraseUser(pools, userId, { graceMs: grace * 1000, onProgress }),
      );
    } catch (error) {
      console.error(
        `Not finished: "npm run db:erase-user -- ${planned.userId}" goes on where this one stopped.`,
      );
      throw error;
    }
  }
}

async function keptDatabases(pools: ErasurePools): Promise<string[]> {
  const names = await Promise.all(Object.values(pools).map((pool) => readKeptDatabases(pool, pool.name)));
  return [...new Set(names.flat())];
}

async function findByEmail(core: Pool, email: string): Promise<string> {
  const { rows } = await core.query<{ id: string }>('SELECT id FROM users WHERE email = lower($1)', [email]);
  if (!rows[0]) throw new UserReferenceError(email, 'unknown');
  return rows[0].id;
}

async function withBar<Result>(
  total: number,
  work: (onProgress: (progress: ErasureProgress) => void) => Promise<Result>,
): Promise<Result> {
  using bar = startBar('{bar} {value}/{total} rows | {what}', total, { what: 'locks the user out' });
  return await work((progress) => {
    if (progress.step === 'rows') {
      bar.increment(progress.rows, { what: `${progress.database} ${progress.relation}` });
    }
    if (progress.step === 'wait') {
      const seconds = Math.ceil(progress.milliseconds / 1000);
      bar.update({ what: `waits ${seconds} s for services that still take the user for active` });
    }
  });
}

function printReport(report: ErasureReport): void {
  const { userId, isDryRun, rows } = report;
  if (rows === 0) {
    console.log(`Nothing to do: no database holds anything of user ${userId}.`);
    return;
  }
  printRows(report);
  console.log(
    isDryRun
      ? `\n${plural(rows, 'row')} of user ${userId} would be deleted or anonymised. Nothing was changed.`
      : `\nUser ${userId} is erased: ${plural(rows, 'row')}. Backups still hold the person until they are pruned.`,
  );
}

const printRows = ({ relations }: ErasureReport): void =>
  printTable(
    ['database', 'table', 'by', 'action', 'rows'],
    relations
      .filter(({ rows }) => rows > 0)
      .map(({ database, relation, column, action, rows }) => [
        database,
        relation,
        column,
        action,
        formatCount(rows),
      ]),
  );
