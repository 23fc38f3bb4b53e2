// A process that runs one command after another, as if each had a process of its own: environment, working folder,
// exit code and output are the command's. Loading the program takes most of a short command's time.
// JavaScript, because a bare Node.js runs it.
// @ts-check
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

/** @typedef {{ args: string[], environment: Record<string, string>, cwd: string, mark: string }} Job */
/** @typedef {{ code: number | string }} Outcome */

const [, , folder = ''] = process.argv;
/** @param {string} module */
const load = (module) => import(pathToFileURL(join(folder, module)).href);
/** @type {{ runProgram: (program: unknown) => Promise<void> }} */
const { runProgram } = await load('cli/arguments.js');
/** @type {{ buildProgram: () => unknown }} */
const { buildProgram } = await load('cli/program.js');
process.on('message', (/** @type {Job} */ job) => void run(job));
// What is open without a command: these two and the channel.
for (const stream of [process.stdout, process.stderr]) stream.write('');
const idle = countResources();

/** @param {Job} job */
async function run({ args, environment, cwd, mark }) {
  process.chdir(cwd);
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, environment);
  process.argv = [process.execPath, folder, ...args];
  process.exitCode = undefined;
  await runProgram(buildProgram());
  const left = await leftOpen();
  const outcome = { code: process.exitCode ?? 0 };
  process.exitCode = undefined;
  if (left) process.stderr.write(`The command has ended, its process would not: ${left}\n`);
  // What child processes wrote has come through the same pipes before.
  process.stdout.write(mark, () => process.stderr.write(mark, () => process.send?.(outcome)));
}

/** What would keep a process of its own from ending, if it stays so for two seconds. */
async function leftOpen() {
  for (const end = Date.now() + 2_000; ; await setTimeout(5)) {
    const extra = [...countResources()].filter(([name, count]) => count > (idle.get(name) ?? 0));
    if (extra.length === 0) return '';
    if (Date.now() > end) return extra.map(([name, count]) => `${count} ${name}`).join(', ');
  }
}

function countResources() {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
