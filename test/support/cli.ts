// Runs the command line as an operator does.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { CliHosts, type CliResult } from './cli-hosts.ts';
import { possibleKeys, serverUrl, uniqueName, uniqueRolePrefix } from './database.ts';
import { bareEnvironment, emptyFolder } from './environment.ts';
import { compiledFolder } from './names.ts';

interface CliOptions {
  cwd?: string;
  /** A copy of the project instead of this one. */
  root?: string;
  /** Run the TypeScript sources, because the test changes them. */
  fromSource?: boolean;
}

const hosts = new CliHosts(join(packageRoot(), compiledFolder, 'scripts'));

export function runCli(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  { cwd, root = packageRoot(), fromSource = false }: CliOptions = {},
): Promise<CliResult> {
  if (fromSource) return runSource('scripts/db.ts', args, environment, { root, ...(cwd && { cwd }) });
  if (root === packageRoot())
    return hosts.run(args, { ...bareEnvironment, ...environment }, cwd ?? emptyFolder);
  return run(
    process.execPath,
    [join(root, 'dist', 'scripts', 'db.js'), ...args],
    environment,
    cwd ?? emptyFolder,
  );
}

/** Runs it in a process of its own. */
export const runCliProcess = (
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<CliResult> => startCli(args, environment).ended;

/** Starts the command line and lets the test decide when it ends. */
export function startCli(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): { child: ChildProcess; ended: Promise<CliResult> } {
  const script = join(packageRoot(), compiledFolder, 'scripts', 'db.js');
  return start(process.execPath, [script, ...args], environment, emptyFolder);
}

/** The compiled form of test/programs/<name>.ts, which Node.js runs by itself. */
export const programPath = (name: string): string =>
  join(packageRoot(), compiledFolder, 'test', 'programs', `${name}.js`);

/** Runs a TypeScript file of the project. */
export function runSource(
  script: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  { cwd, root = packageRoot() }: Omit<CliOptions, 'fromSource'> = {},
): Promise<CliResult> {
  const tsx = join(packageRoot(), 'node_modules', 'tsx', 'dist', 'loader.mjs');
  return run(
    process.execPath,
    ['--import', tsx, join(root, script), ...args],
    environment,
    cwd ?? emptyFolder,
  );
}

export function run(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  cwd: string,
): Promise<CliResult> {
  return start(program, args, environment, cwd).ended;
}

function start(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  cwd: string,
): { child: ChildProcess; ended: Promise<CliResult> } {
  const child = spawn(program, args, {
    cwd,
    env: { ...bareEnvironment, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<CliResult>((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, ended };
}

/** The five URL variables, each naming a database that does not exist yet, and a prefix for its roles. */
export function freshEnvironment(): Record<string, string> {
  const urls = possibleKeys().map((key) => [definitionOf(key).urlVariable, serverUrl(key, uniqueName(key))]);
  return { ...Object.fromEntries(urls), ATRIZ_ROLE_PREFIX: uniqueRolePrefix() };
}

/** The environment for one existing database. */
export const environmentFor = (key: DatabaseKey, url: string): Record<string, string> => ({
  [definitionOf(key).urlVariable]: url,
});
