// status: shows the server, migrations, tables, chunks and policies of each database.
import type { Command } from 'commander';
import { databaseUrl, hasUrl } from '../../src/config.ts';
import { type DatabaseTarget, keyOf } from '../../src/databases.ts';
import { maskPassword } from '../../src/driver/database-url.ts';
import { ConnectionError } from '../../src/errors.ts';
import { getMigrationStatus, isInStep } from '../../src/migrations/index.ts';
import { nameOfRow } from '../../src/migrations/state.ts';
import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { selectTargets } from '../../src/targets.ts';
import { chunks, policyJobs, readTimescale, storedRelations } from '../../src/timescale/catalog.ts';
import type { Transaction } from '../../src/transaction.ts';
import { formatBytes, formatCount, printJson, printTable } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';

export interface StatusOptions {
  check?: boolean;
  json?: boolean;
}

type Status = { key: DatabaseTarget; url: string; origin: string } & (
  | { isReachable: false; error: string }
  | ({ isReachable: true; migrations: MigrationFacts } & AllFacts)
);

export interface MigrationFacts {
  isInStep: boolean;
  applied: string[];
  pending: string[];
  outOfOrder: string[];
  edited: string[];
  orphaned: string[];
  problems: readonly string[];
}

export function registerStatus(program: Command): void {
  saysWhere(program.command('status'))
    .description('show server, migrations, tables, chunks and policies; exit 1 if one cannot be reached')
    .argument('[database...]', 'which; default: all')
    .option('--check', 'exit 3 when anything is pending or wrong')
    .option('--json', 'print JSON')
    .action((names: string[], options: StatusOptions) => printStatus(names, options));
}

export async function printStatus(names: readonly string[], { json, check }: StatusOptions): Promise<void> {
  const selected = selectTargets(names);
  // An application may configure only some databases. If none is configured, `databaseUrl` throws.
  const known = names.length === 0 && selected.some(hasUrl) ? selected.filter(hasUrl) : selected;
  const statuses = await Promise.all(known.map(readStatus));
  if (json) printJson(statuses);
  else printReport(statuses);
  const unknown = selected.filter((key) => !known.includes(key));
  if (!json && unknown.length > 0) console.log(`\nNo setting says where ${unknown.join(', ')} are.`);
  const inStep = statuses.every((status) => status.isReachable && status.migrations.isInStep);
  if (check && !inStep) process.exitCode = 3;
  if (statuses.some(({ isReachable }) => !isReachable)) process.exitCode = 1;
}

async function readStatus(key: DatabaseTarget): Promise<Status> {
  const { url, origin } = databaseUrl(key);
  const where = { key, url: maskPassword(url), origin };
  try {
    return await withPool(key, async (pool) => ({
      ...where,
      isReachable: true,
      migrations: await readMigrationFacts(pool, key),
      ...(await atOnce(pool, readAll)),
    }));
  } catch (error) {
    // A failure, such as a missing privilege, must not hide the status of the other databases.
    const { code, message } = error as NodeJS.ErrnoException;
    if (!(error instanceof ConnectionError) && !code) throw error;
    const known = error instanceof ConnectionError ? message : `${key}: ${message} (${code}).`;
    return { ...where, isReachable: false, error: known };
  }
}

export async function readMigrationFacts(pool: Pool, key: DatabaseTarget): Promise<MigrationFacts> {
  const state = await getMigrationStatus(pool, key);
  const tags = (migrations: typeof state.applied) => migrations.map(({ tag }) => tag);
  return {
    isInStep: isInStep(state),
    applied: tags(state.applied),
    pending: tags(state.pending),
    outOfOrder: tags(state.outOfOrder),
    edited: state.edited.map(({ migration }) => migration.tag),
    orphaned: state.orphaned.map(nameOfRow),
    problems: state.problems,
  };
}

function printReport(statuses: readonly Status[]): void {
  printTable(
    ['database', 'server', 'migrations', 'tables', 'size'],
    statuses.map((status) => {
      if (!status.isReachable) return [status.key, 'not reachable', '', '', ''];
      return [
        status.key,
        serverText(status),
        migrationText(status.migrations),
        status.tables.length,
        formatBytes(status.bytes),
      ];
    }),
  );
  const isOneOfSeveral = statuses.filter((status) => status.isReachable && status.timescale).length > 1;
  for (const status of statuses) {
    if (!status.isReachable) console.log(`\n${status.error}`);
    else if (status.timescale) {
      if (isOneOfSeveral) console.log(`\n${status.key}:`);
      printTimescale(status.timescale);
    }
    if (status.isReachable) printMigrationProblems(status.key, status.migrations);
  }
}

export const serverText = ({ serverVersion, extensions }: DatabaseFacts): string =>
  [serverVersion, ...extensions.map(({ name, version }) => `${name} ${version}`)].join(', ');

export const migrationText = ({ applied, pending, outOfOrder, edited, orphaned }: MigrationFacts): string =>
  [
    `${applied.length} applied`,
    pending.length > 0 && `${pending.length} pending`,
    outOfOrder.length > 0 && `${outOfOrder.length} out of order`,
    edited.length > 0 && `${edited.length} edited`,
    orphaned.length > 0 && `${orphaned.length} without a file`,
  ]
    .filter(Boolean)
    .join(', ');

function printMigrationProblems(
  key: DatabaseTarget,
  { pending, outOfOrder, edited, orphaned, problems }: MigrationFacts,
): void {
  const late = outOfOrder.length > 0 ? `${key === keyOf(key) ? ' --' : ''} --allow-out-of-order` : '';
  const found = [
    ...problems,
    pending.length > 0 && `pending ${pending.join(', ')}: "${migrateCommand(key)}${late}" applies them.`,
    outOfOrder.length > 0 &&
      `out of order ${outOfOrder.join(', ')}: older than the latest applied, as after a late merge.`,
    edited.length > 0 &&
      `edited after it was applied ${edited.join(', ')}: restore the file, or "npm run migrate -- repair ${key}".`,
    orphaned.length > 0 && appliedWithoutFile(key, orphaned),
  ].filter(Boolean);
  if (found.length > 0) console.log(`\n${found.map((line) => `${key}: ${line}`).join('\n')}`);
}

/** The command that applies pending migrations. A key has its own npm script; `tracking:mextrack` does not. */
export const migrateCommand = (key: DatabaseTarget): string =>
  key === keyOf(key) ? `npm run db:migrate:${key}` : `npm run db:migrate -- ${key}`;

/** @param names The names of the records, as `migrate mark --undo` takes them. */
export const appliedWithoutFile = (key: DatabaseTarget, names: readonly string[]): string =>
  `applied without a file ${names.join(', ')}: this checkout is older than the database, or the file was deleted or dropped. ` +
  `Restore it from version control and "npm run migrate -- down ${key}" takes it back; or "npm run migrate -- mark ${key} ` +
  `${names[0]} --undo" removes the record, and what it made stays.`;

function printTimescale({ hypertables, policies }: TimescaleFacts): void {
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

export interface DatabaseFacts {
  serverVersion: string;
  extensions: { name: string; version: string }[];
  bytes: number;
  /** `rows` is the estimate of the planner. Before the first ANALYZE, it is the live rows in the statistics. */
  tables: { name: string; rows: number; bytes: number; comment: string | null }[];
}

export interface TimescaleFacts {
  hypertables: { name: string; chunks: number; compressedChunks: number; bytes: number }[];
  policies: {
    job: number;
    policy: string;
    relation: string;
    settings: Record<string, string>;
    every: string;
    lastRun: string | null;
    lastResult: string | null;
    nextRun: string | null;
    failures: number;
    lastError: string | null;
  }[];
}

const atOnce = <Result>(pool: Pool, read: (db: Transaction) => Promise<Result>): Promise<Result> =>
  withCatalogPath(pool, read, { isolation: 'repeatable read', readOnly: true });

/** Reads facts that every role with CONNECT may see. */
export const readDatabaseFacts = (pool: Pool): Promise<DatabaseFacts> => atOnce(pool, readDatabase);

/** Undefined if TimescaleDB is not enabled. */
export const readTimescaleFacts = (pool: Pool): Promise<TimescaleFacts | undefined> =>
  atOnce(pool, readPolicyFacts);

type AllFacts = DatabaseFacts & { timescale: TimescaleFacts | undefined };

const readAll = async (db: Transaction): Promise<AllFacts> => ({
  ...(await readDatabase(db)),
  timescale: await readPolicyFacts(db),
});

async function readDatabase(db: Transaction): Promise<DatabaseFacts> {
  const { rows } = await db.query<DatabaseFacts>(
    `SELECT current_setting('server_version') AS "serverVersion",
       pg_database_size(current_database())::float8 AS bytes,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', extname, 'version', extversion) ORDER BY extname), '[]')
          FROM pg_extension WHERE extname <> 'plpgsql') AS extensions,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', relname,
                 'rows', CASE WHEN reltuples < 0 THEN pg_stat_get_live_tuples(oid) ELSE reltuples END,
                 'bytes', pg_total_relation_size(oid), 'comment', obj_description(oid, 'pg_class')) ORDER BY relname), '[]')
          FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')) AS tables`,
  );
  return rows[0] as DatabaseFacts;
}

async function readPolicyFacts(db: Transaction): Promise<TimescaleFacts | undefined> {
  const timescale = await readTimescale(db);
  if (!timescale) return undefined;
  return { hypertables: await readHypertables(db, timescale.schema), policies: await readPolicies(db) };
}

async function readHypertables(db: Transaction, schema: string) {
  const { rows } = await db.query<TimescaleFacts['hypertables'][number]>(
    `SELECT r.name, count(c.chunk_name)::int AS chunks,
       (count(*) FILTER (WHERE c.is_compressed))::int AS "compressedChunks",
       coalesce(${schema}.hypertable_size(format('%I.%I', storage_schema, storage_name)::regclass), 0)::float8 AS bytes
     FROM ${storedRelations} AS r LEFT JOIN ${chunks} AS c USING (storage_schema, storage_name)
     GROUP BY storage_schema, storage_name, r.name
     ORDER BY r.name`,
  );
  return rows;
}

async function readPolicies(db: Transaction) {
  const { rows } = await db.query<TimescaleFacts['policies'][number]>(
    `SELECT j.job_id AS job,
       replace(replace(j.proc_name, 'policy_', ''), '_', ' ') AS policy,
       j.relation,
       coalesce((SELECT jsonb_object_agg(replace(key, '_', ' '), value) FROM jsonb_each_text(j.config)
                 WHERE key NOT IN ('hypertable_id', 'mat_hypertable_id')), '{}') AS settings,
       j.schedule_interval::text AS every,
       to_char(nullif(j.last_run_started_at, '-infinity'), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "lastRun",
       j.last_run_status AS "lastResult",
       to_char(nullif(j.next_start, '-infinity'), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "nextRun",
       coalesce(j.total_failures, 0)::float8 AS failures,
       j.last_error AS "lastError"
     FROM ${policyJobs} AS j
     ORDER BY relation, policy, job`,
  );
  return rows;
}
