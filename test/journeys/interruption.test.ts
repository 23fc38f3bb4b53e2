// What the programs that start a cluster leave behind when they are interrupted: nothing.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { isAlive } from '../../src/config.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { makeDataFolder } from '../support/data-folder.ts';
import { bareEnvironment } from '../support/environment.ts';

const folders: string[] = [];
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function temporaryFolder(): string {
  const folder = makeDataFolder('atriz-interruption-test-');
  folders.push(folder);
  // Run as root, PostgreSQL runs as another user, who has to enter it.
  chmodSync(folder, 0o755);
  // What is made once per machine is not made again.
  for (const name of readdirSync(tmpdir())) {
    if (/^(atriz-timescaledb|tsx)-/.test(name)) symlinkSync(join(tmpdir(), name), join(folder, name));
  }
  return folder;
}

/** @param temporary where the program makes its own temporary folders. */
function start(script: string, cwd: string, temporary: string, args: readonly string[] = []) {
  const tsx = join(packageRoot(), 'node_modules', 'tsx', 'dist', 'loader.mjs');
  const child = spawn(process.execPath, ['--import', tsx, join(packageRoot(), 'scripts', script), ...args], {
    cwd,
    env: { ...bareEnvironment, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  const says = (text: string) =>
    expect
      .poll(() => output, { interval: 50 })
      .toContain(text)
      .then(() => output);
  return { child, says, ended: once(child, 'exit') };
}

/** Of the plain server whose data is in this folder. */
const serverIn = (folder: string): number =>
  Number(readFileSync(join(folder, 'plain', 'postmaster.pid'), 'utf8').split('\n')[0]);

test.each(['a signal', 'output that nobody reads'])('quickstart cleans up after %s', async (reason) => {
  const temporary = temporaryFolder();
  const { child, says, ended } = start('quickstart.ts', temporary, temporary, [
    '--vehicles',
    '1',
    '--days',
    '8',
    '--no-report',
  ]);
  await says('npm run db:prepare');
  const made = () => readdirSync(temporary).filter((name) => name.startsWith('atriz-quickstart-'));
  const [folder = ''] = made();
  const server = serverIn(join(temporary, folder));
  expect(isAlive(server)).toBe(true);
  if (reason === 'a signal') child.kill('SIGHUP');
  else child.stdout.destroy();
  expect(await ended).toEqual([1, null]);
  expect(made()).toEqual([]);
  expect(isAlive(server)).toBe(false);
  expect(await says('')).not.toMatch(/\n\s+at |EPIPE/);
});

test('dev says which settings win over its cluster, and stops with its terminal', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, '.env'), 'PSHOP_DATABASE_URL=postgresql://me:hush@db.example/pshop_db\n');
  const { child, says, ended } = start('dev.ts', folder, folder);
  const output = await says('Ctrl-C stops the cluster');
  expect(output).toMatch(
    /Your settings win over this cluster.*\nServers: .*; pshop on db\.example:5432, from /,
  );
  expect(output).not.toContain('hush');
  const server = serverIn(join(folder, '.atriz'));
  // As a terminal does that is closed.
  child.stdout.destroy();
  child.stderr.destroy();
  child.kill('SIGHUP');
  expect(await ended).toEqual([0, null]);
  expect(isAlive(server)).toBe(false);
  expect(existsSync(join(folder, '.atriz', 'cluster.json'))).toBe(false);
});
