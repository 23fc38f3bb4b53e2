// deploy: runs the steps of a deployment in order and stops at the first failure.
import { type Command, InvalidArgumentError } from 'commander';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { getMigrationStatus } from '../../src/migrations/index.ts';
import { selectTargets } from '../../src/targets.ts';
import { backupBefore } from '../backup/create/before-deploy.ts';
import { failureOf } from '../cli/arguments.ts';
import { plural, printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { saysWhere } from '../cli/where.ts';
import { checks } from '../doctor/checks.ts';
import type { Finding } from '../doctor/finding.ts';
import { pendingCheck } from '../doctor/migrations.ts';
import { backupCheck } from '../doctor/operations.ts';
import { printFindings, summary } from '../doctor/report.ts';
import { type DoctorReport, hasErrors, runDoctor } from '../doctor/run.ts';
import { defaultMaxBlock, rehearseDatabases } from '../rehearse/databases.ts';
import { formatMs, longestBlock } from '../rehearse/report.ts';
import { defaultFolder } from './backup.ts';
import { createDatabase, databaseName, exists } from './create.ts';
import { migrateDatabase } from './migrate.ts';

interface DeployOptions {
  dryRun?: boolean;
  /** Rehearse the migrations on the backup first. */
  rehearse?: boolean;
  /** Checks of the doctor whose errors do not stop the deployment. */
  accept: readonly string[];
  json?: boolean;
}

/** The outcome of a step. An outcome with an exit code ends the deployment. */
interface Outcome {
  readonly status: 'done' | 'not needed' | 'failed' | 'not started';
  /** A sentence for people. */
  readonly result: string;
  readonly findings?: readonly (Finding & { database: DatabaseTarget })[];
  readonly migrations?: Readonly<Partial<Record<DatabaseTarget, readonly string[]>>>;
  readonly exitCode?: 1 | 2 | 3;
}

interface Deployment {
  readonly keys: readonly DatabaseTarget[];
  readonly options: DeployOptions;
  /** Databases that did not exist before. In a dry run they still do not exist. */
  readonly created: Set<DatabaseTarget>;
  /** Tags of pending migrations, set by the first doctor step. Databases without any are left out. */
  readonly pending: Map<DatabaseTarget, readonly string[]>;
}

interface Step {
  readonly name: string;
  /** Runs in a dry run too, and then changes nothing. */
  readonly looksOnly?: boolean;
  readonly run: (deployment: Deployment) => Promise<Outcome>;
}

const steps: readonly Step[] = [
  { name: 'create', looksOnly: true, run: createMissing },
  { name: 'doctor', looksOnly: true, run: examine },
  { name: 'backup', run: backUp },
  { name: 'rehearse', run: rehearsePending },
  { name: 'migrate', run: migrateInOrder },
  { name: 'doctor again', run: examineAgain },
];

export function registerDeploy(program: Command): void {
  saysWhere(program.command('deploy'))
    .description(
      'create what is missing, examine, back up, migrate in order, examine again; stops at the first thing that is wrong',
    )
    .argument('[database...]', 'which; default: all')
    .option('--rehearse', 'rehearse the migrations on the backup, and stop where one blocks too long')
    .option('--dry-run', 'examine, and show what would be applied; changes nothing')
    .option(
      '--accept <checks>',
      'checks of the doctor whose errors do not stop it, as in policies,drift',
      checkNames,
      [],
    )
    .option('--json', 'print JSON')
    .action(deploy);
}

type Reported = { readonly step: string } & Omit<Outcome, 'exitCode'>;

async function deploy(names: string[], options: DeployOptions): Promise<void> {
  const keys = selectTargets(names);
  const deployment: Deployment = { keys, options, created: new Set(), pending: new Map() };
  const report: Reported[] = [];
  let failure: { step: string; exitCode: number } | undefined;
  for (const { name, looksOnly, run } of steps.filter(
    ({ name }) => options.rehearse || name !== 'rehearse',
  )) {
    const isDue = !failure && (looksOnly || !options.dryRun);
    const { exitCode, ...outcome } = isDue
      ? await run(deployment).catch(failed)
      : notStarted(name, failure ? `${failure.step} failed` : 'dry run', deployment);
    if (exitCode !== undefined) failure = { step: name, exitCode };
    const reported = { step: name, ...outcome };
    report.push(reported);
    if (!options.json) print(reported);
  }
  if (options.json) {
    const pending = Object.fromEntries(deployment.pending);
    const { accept, dryRun = false } = options;
    printJson({ isDone: failure === undefined, isDryRun: dryRun, accepted: accept, pending, steps: report });
  }
  if (failure) process.exitCode = failure.exitCode;
}

function print({ step, status, result, findings = [] }: Reported): void {
  const line = `${step.padEnd(12)}  ${status.padEnd(11)}  ${result}`;
  if (status === 'failed') console.error(line);
  else console.log(line);
  printFindings(findings.map((finding) => ({ ...finding, check: `${finding.database} ${finding.check}` })));
}

function notStarted(step: string, why: string, { pending }: Deployment): Outcome {
  const due = step === 'migrate' && pending.size > 0 ? `; ${listOf(pending)} would be applied` : '';
  return { status: 'not started', result: why + due };
}

const listOf = (tags: ReadonlyMap<DatabaseTarget, readonly string[]>) =>
  [...tags].map(([key, names]) => `${key} ${names.join(', ')}`).join('; ');

function failed(error: unknown): Outcome {
  const { message, exitCode } = failureOf(error);
  return { status: 'failed', result: message, exitCode };
}

function checkNames(text: string): string[] {
  const names = text.split(',');
  const known = checks.map(({ name }) => name);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return names;
  throw new InvalidArgumentError(`There is no check "${unknown}": the checks are ${known.join(', ')}.`);
}

/** Creates missing databases. A dry run creates none, and its next step examines only existing databases. */
async function createMissing({ keys, options, created }: Deployment): Promise<Outcome> {
  for (const key of keys) if (!(await exists(key))) created.add(key);
  if (created.size === 0) return { status: 'not needed', result: 'all databases exist' };
  const names = [...created].map(databaseName).join(', ');
  if (options.dryRun) return { status: 'not started', result: `${names} would be created and migrated` };
  for (const key of created) await createDatabase(key, { access: true });
  return { status: 'done', result: `${names} created` };
}

/**
 * Pending migrations and old backups are ignored, because later steps handle them. Other errors stop the
 * deployment, except those of accepted checks and of checks about rows and jobs.
 */
async function examine({ keys, options, created, pending }: Deployment): Promise<Outcome> {
  const reports = await runDoctor(options.dryRun ? keys.filter((key) => !created.has(key)) : keys);
  const others = without(reports, [pendingCheck, backupCheck]);
  for (const { key, findings } of reports) {
    if (!findings.some(({ check }) => check === pendingCheck)) continue;
    const state = await withPool(key, (pool) => getMigrationStatus(pool, key));
    pending.set(
      key,
      state.pending.map(({ tag }) => tag),
    );
  }
  return judge(others, options);
}

async function examineAgain({ keys, options, pending }: Deployment): Promise<Outcome> {
  return pending.size === 0 ? nothingToDo : judge(without(await runDoctor(keys), [backupCheck]), options);
}

const without = (reports: readonly DoctorReport[], checks: readonly string[]): DoctorReport[] =>
  reports.map((report) => ({
    ...report,
    findings: report.findings.filter(({ check }) => !checks.includes(check)),
  }));

const nothingToDo: Outcome = { status: 'not needed', result: 'nothing is pending' };

function judge(reports: readonly DoctorReport[], { accept }: DeployOptions): Outcome {
  const findings = reports.flatMap(({ key, findings }) =>
    findings.map((finding) => ({ database: key, ...finding })),
  );
  const result = findings.length === 0 ? `${plural(reports.length, 'database')} healthy` : summary(findings);
  const ofOperation = checks.filter(({ isOfOperation }) => isOfOperation).map(({ name }) => name);
  if (!hasErrors(without(reports, [...ofOperation, ...accept]))) return { status: 'done', result, findings };
  return { status: 'failed', result, findings, exitCode: 3 };
}

/** Backs up the critical databases with pending migrations, except those that this deployment created. */
async function backUp({ created, pending }: Deployment): Promise<Outcome> {
  const changed = [...pending.keys()].filter((key) => !created.has(key));
  if (pending.size === 0) return nothingToDo;
  if (changed.length === 0) return { status: 'not needed', result: 'the databases are new' };
  return { status: 'done', result: await backupBefore(changed) };
}

/** Uses the backup of the previous step for critical databases, and a new dump for the others. */
async function rehearsePending({ created, pending }: Deployment): Promise<Outcome> {
  const changed = [...pending.keys()].filter((key) => !created.has(key));
  if (pending.size === 0) return nothingToDo;
  if (changed.length === 0) return { status: 'not needed', result: 'the databases are new' };
  const rehearse = (isCritical: boolean) =>
    rehearseDatabases(
      changed.filter((key) => definitionOf(key).backup.critical === isCritical),
      { from: 'latest', live: !isCritical, to: defaultFolder, maxBlock: defaultMaxBlock },
    );
  const rehearsals = [...(await rehearse(true)), ...(await rehearse(false))];
  const problems = rehearsals.flatMap(({ database, problems }) =>
    problems.map((problem) => `${database}: ${problem}`),
  );
  if (problems.length > 0) return { status: 'failed', result: problems.join('\n'), exitCode: 3 };
  return {
    status: 'done',
    result: `${listOf(new Map([...pending].filter(([key]) => !created.has(key))))}: no wait longer than ${formatMs(longestBlock(rehearsals))}`,
  };
}

/** Migrates one database after the other, so that a failure can report what was applied and what was not. */
async function migrateInOrder({ pending, options }: Deployment): Promise<Outcome> {
  if (pending.size === 0) return nothingToDo;
  const migrations = new Map<DatabaseTarget, string[]>();
  try {
    for (const key of pending.keys()) {
      const applied: string[] = [];
      migrations.set(key, applied);
      await migrateDatabase(key, { json: options.json ?? false }, (tag) => applied.push(tag));
    }
    return {
      status: 'done',
      result: `${listOf(migrations)} applied`,
      migrations: Object.fromEntries(migrations),
    };
  } catch (error) {
    const outcome = failed(error);
    const applied = new Map([...migrations].filter(([, tags]) => tags.length > 0));
    const missing = new Map<DatabaseTarget, string[]>();
    for (const [key, tags] of pending) {
      const left = tags.filter((tag) => !migrations.get(key)?.includes(tag));
      if (left.length > 0) missing.set(key, left);
    }
    const result = `${outcome.result}\n${applied.size > 0 ? listOf(applied) : 'nothing'} applied; ${listOf(missing)} not`;
    return { ...outcome, result, migrations: Object.fromEntries(applied) };
  }
}
