// status: what each database is, which migrations it has, and how tracking is doing.
import type { Command } from 'commander';
import { databaseUrl, selectDatabases } from '../../src/config.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { maskPassword } from '../../src/driver/database-url.ts';
import { ConnectionError } from '../../src/errors.ts';
import { getMigrationStatus, isInStep } from '../../src/migrations/index.ts';
import { formatBytes, formatCount, printJson, printTable } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { type DatabaseFacts, readFacts } from './status-facts.ts';

export interface StatusOptions {
  check?: boolean;
  json?: boolean;
}

type Status = { key: DatabaseKey; url: string; origin: string } & (
  | { isReachable: false; error: string }
  | ({
      isReachable: true;
      migrations: {
        isInStep: boolean;
        applied: string[];
        pending: string[];
        outOfOrder: string[];
        edited: string[];
        orphaned: number;
        problems: readonly string[];
      };
    } & DatabaseFacts)
);

export function registerStatus(program: Command): void {
  program
    .command('status')
    .description('show server, migrations, tables, chunks and policies; exit 1 if one cannot be reached')
    .argument('[database...]', 'which; default: all')
    .option('--check', 'exit 3 when anything is pending or wrong')
    .option('--json', 'print JSON')
    .action((names: string[], options: StatusOptions) => printStatus(names, options));
}

export async function printStatus(names: readonly string[], { json, check }: StatusOptions): Promise<void> {
  const statuses = await Promise.all(selectDatabases(names).map(readStatus));
  if (json) printJson(statuses);
  else printReport(statuses);
  const inStep = statuses.every((status) => status.isReachable && status.migrations.isInStep);
  if (check && !inStep) process.exitCode = 3;
  if (statuses.some(({ isReachable }) => !isReachable)) process.exitCode = 1;
}

async function readStatus(key: DatabaseKey): Promise<Status> {
  const { url, origin } = databaseUrl(key);
  const where = { key, url: maskPassword(url), origin };
  try {
    return await withPool(key, async (pool) => {
      const state = await getMigrationStatus(pool, key);
      const tags = (migrations: typeof state.applied) => migrations.map(({ tag }) => tag);
      return {
        ...where,
        isReachable: true,
        migrations: {
          isInStep: isInStep(state),
          applied: tags(state.applied),
          pending: tags(state.pending),
          outOfOrder: tags(state.outOfOrder),
          edited: state.edited.map(({ migration }) => migration.tag),
          orphaned: state.orphaned.length,
          problems: state.problems,
        },
        ...(await readFacts(pool)),
      };
    });
  } catch (error) {
    // A missing privilege, say: one database must not hide the others.
    const { code, message } = error as NodeJS.ErrnoException;
    if (!(error instanceof ConnectionError) && !code) throw error;
    const known = error instanceof ConnectionError ? message : `${key}: ${message} (${code}).`;
    return { ...where, isReachable: false, error: known };
  }
}

function printReport(statuses: readonly Status[]): void {
  printTable(
    ['database', 'server', 'migrations', 'tables', 'size'],
    statuses.map((status) => {
      if (!status.isReachable) return [status.key, 'not reachable', '', '', ''];
      const { applied, pending, outOfOrder, edited, orphaned } = status.migrations;
      const migrations = [
        `${applied.length} applied`,
        pending.length > 0 && `${pending.length} pending`,
        outOfOrder.length > 0 && `${outOfOrder.length} out of order`,
        edited.length > 0 && `${edited.length} edited`,
        orphaned > 0 && `${orphaned} without a file`,
      ];
      return [
        status.key,
        [status.serverVersion, ...status.extensions.map(({ name, version }) => `${name} ${version}`)].join(
          ', ',
        ),
        migrations.filter(Boolean).join(', '),
        status.tables.length,
        formatBytes(status.bytes),
      ];
    }),
  );
  for (const status of statuses) {
    if (!status.isReachable) console.log(`\n${status.error}`);
    else if (status.timescale) printTimescale(status.timescale);
    if (status.isReachable) printMigrationProblems(status.key, status.migrations);
  }
}

function printMigrationProblems(
  key: DatabaseKey,
  { pending, outOfOrder, edited, orphaned, problems }: Extract<Status, { isReachable: true }>['migrations'],
): void {
  const late = outOfOrder.length > 0 ? ' -- --allow-out-of-order' : '';
  const found = [
    ...problems,
    pending.length > 0 && `pending ${pending.join(', ')}: "npm run db:migrate:${key}${late}" applies them.`,
    outOfOrder.length > 0 &&
      `out of order ${outOfOrder.join(', ')}: older than the latest applied, as after a late merge.`,
    edited.length > 0 &&
      `edited after it was applied ${edited.join(', ')}: restore the file, or "npm run migrate -- repair ${key}".`,
    orphaned > 0 && `${orphaned} applied without a file: this checkout is older than the database.`,
  ].filter(Boolean);
  if (found.length > 0) console.log(`\n${found.map((line) => `${key}: ${line}`).join('\n')}`);
}

function printTimescale({ hypertables, policies }: NonNullable<DatabaseFacts['timescale']>): void {
  printSection(
    ['hypertable', 'chunks', 'compressed', 'size'],
    hypertables.map(({ name, chunks, compressedChunks, bytes }) => [
      name,
      formatCount(chunks),
      formatCount(compressedChunks),
      formatBytes(bytes),
    ]),
  );
  printSection(
    ['policy', 'on', 'setting', 'every', 'last run'],
    policies.map(({ policy, relation, settings, every, lastRun, lastResult }) => [
      policy,
      relation,
      Object.entries(settings)
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
      every,
      lastRun ? `${lastRun} ${lastResult ?? ''}` : 'never',
    ]),
  );
}

function printSection(head: readonly string[], rows: readonly (readonly string[])[]): void {
  if (rows.length === 0) return;
  console.log();
  printTable(head, rows);
}
