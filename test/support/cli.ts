// Runs the command line as an operator does, in a process of its own.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { packageRoot } from '../../src/package-root.ts';
import { possibleKeys, serverUrl, uniqueName } from './database.ts';

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Only what a process needs to run: nothing of the developer's own settings may decide a test. */
const bareEnvironment = { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '' };

export function runCli(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  options: { cwd?: string; script?: string } = {},
): Promise<CliResult> {
  const root = packageRoot();
  const tsx = join(root, 'node_modules', 'tsx', 'dist', 'loader.mjs');
  const script = join(root, options.script ?? 'scripts/db.ts');
  return run(process.execPath, ['--import', tsx, script, ...args], environment, options.cwd ?? root);
}

export function run(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  cwd: string,
): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      env: { ...bareEnvironment, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
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
}

/** The five URL variables, each naming a database that does not exist yet. */
export function freshEnvironment(): Record<string, string> {
  return Object.fromEntries(
    possibleKeys().map((key) => [definitionOf(key).urlVariable, serverUrl(key, uniqueName(key))]),
  );
}

/** The environment for one existing database. */
export const environmentFor = (key: DatabaseKey, url: string): Record<string, string> => ({
  [definitionOf(key).urlVariable]: url,
});
