// npm run soak: runs the suite many times and counts how often each test failed.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { childEnvironment } from '../src/config.ts';
import { packageRoot } from '../src/migrations/package-root.ts';
import { countingNumber, runProgram } from './cli/arguments.ts';
import { printJson, printTable } from './cli/output.ts';

interface Run {
  readonly passed: number;
  readonly failed: string[];
  readonly skipped: number;
  readonly seconds: number;
  /** Exit code of vitest; null if a signal ended it. */
  readonly exitCode: number | null;
}

interface Report {
  numPassedTests: number;
  numPendingTests: number;
  testResults: { name: string; message: string; assertionResults: { fullName: string; status: string }[] }[];
}

const folder = join(packageRoot(), 'node_modules', '.cache', 'soak');

const program = new Command('soak')
  .description('Runs the suite many times, on the server that TEST_SERVER names.')
  .argument('[arguments...]', 'for vitest, such as a file')
  .option('--runs <count>', 'how often', countingNumber, 20)
  .option('--json', 'print JSON')
  .exitOverride()
  .action(async (args: string[], { runs, json }: { runs: number; json?: boolean }) => {
    const done: Run[] = [];
    for (let number = 1; number <= runs; number += 1) {
      const run = await runSuite(number, args);
      done.push(run);
      if (!json) console.log(`run ${number} of ${runs}: ${describe(run)}`);
    }
    if (json) printJson(done);
    else printFailures(done);
    if (done.some(({ exitCode }) => exitCode !== 0)) process.exitCode = 1;
  });

async function runSuite(number: number, args: readonly string[]): Promise<Run> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${number}.json`);
  rmSync(file, { force: true });
  const started = performance.now();
  const vitest = join(packageRoot(), 'node_modules', 'vitest', 'vitest.mjs');
  // Only the default reporter prints errors outside of tests. Such errors also make a run fail.
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const projects = args.some((argument) => /^--project\b/.test(argument)) ? [] : ['--project', 'suite'];
  const log = openSync(join(folder, `${number}.log`), 'w');
  const child = spawn(process.execPath, [vitest, 'run', ...projects, ...reporters, ...args], {
    cwd: packageRoot(),
    env: childEnvironment({ NO_COLOR: '1' }),
    stdio: ['ignore', log, log],
  });
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  const seconds = Math.round((performance.now() - started) / 1000);
  closeSync(log);
  const outside = `vitest itself: see ${join(folder, `${number}.log`)}`;
  if (!existsSync(file)) return { passed: 0, failed: [outside], skipped: 0, seconds, exitCode };
  const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  const failed = report.testResults.flatMap(failuresOf);
  return {
    passed: report.numPassedTests,
    failed: failed.length === 0 && exitCode !== 0 ? [outside] : failed,
    skipped: report.numPendingTests,
    seconds,
    exitCode,
  };
}

/** Returns the failed tests of a file, or the file itself if it failed before its first test. */
function failuresOf({ name, message, assertionResults }: Report['testResults'][number]): string[] {
  const path = name.slice(packageRoot().length + 1);
  const tests = assertionResults.filter(({ status }) => status === 'failed');
  if (tests.length === 0 && message) return [path];
  return tests.map(({ fullName }) => `${path} ${fullName}`);
}

const describe = ({ passed, failed, skipped, seconds, exitCode }: Run): string =>
  `${passed} passed, ${failed.length} failed, ${skipped} skipped in ${seconds} s, exit ${exitCode}`;

function printFailures(runs: readonly Run[]): void {
  const counts = new Map<string, number>();
  for (const name of runs.flatMap(({ failed }) => failed)) counts.set(name, (counts.get(name) ?? 0) + 1);
  console.log(`\n${runs.filter(({ exitCode }) => exitCode === 0).length} of ${runs.length} runs passed.`);
  if (counts.size === 0) return;
  const rows = [...counts].sort(([, one], [, other]) => other - one);
  printTable(
    ['failed', 'test'],
    rows.map(([name, count]) => [`${count} of ${runs.length}`, name]),
  );
}

await runProgram(program);
