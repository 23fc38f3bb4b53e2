// A newcomer with nothing but Node: the quickstart, then the README's "Develop", in a fresh checkout.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive } from '../../src/config.ts';
import { databaseKeys } from '../../src/databases.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { everythingIn, temporaryFolder } from '../support/backups.ts';
import { runSource } from '../support/cli.ts';
import { bareEnvironment } from '../support/environment.ts';
import { Checkout, commandsUnder } from '../support/journey.ts';

test('npm run quickstart goes from nothing to answers, and leaves nothing behind but a page', async () => {
  const cwd = temporaryFolder();
  const { code, stdout, stderr } = await runSource(
    'scripts/quickstart.ts',
    ['--vehicles', '3', '--days', '9'],
    {},
    { cwd },
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('27,054 points in');
  expect(stdout).toMatch(/the chunks older than 7 days: .* times smaller/);
  expect(stdout).toMatch(/Truck 3\s+20\d\d-/);
  expect(stdout).toMatch(/Truck 1: 1,00\d points in the last 24 hours/);
  expect(stdout).toContain('npm run dev');
  expect(everythingIn(cwd)).toEqual(['atriz-report.html']);
  const page = readFileSync(join(cwd, 'atriz-report.html'), 'utf8');
  expect(page).toContain('Map of the track of Truck 1');
  expect(stdout).toContain('open atriz-report.html');
  const folder = /(\/\S*atriz-quickstart-\S*)/.exec(stdout)?.[1];
  if (folder) expect(existsSync(folder)).toBe(false);
});

test('npm run dev, prepare and status, until Ctrl-C', async () => {
  const checkout = new Checkout();
  const [dev = '', ...others] = commandsUnder('README.md', '## Develop').slice(0, 3);
  // A group of its own, as a shell makes it, which gets the terminal's Ctrl-C.
  const child = spawn('bash', ['-c', dev], {
    cwd: checkout.root,
    env: bareEnvironment,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const ended = once(child, 'exit');
  onTestFinished(() => {
    const isRunning = child.exitCode === null && child.signalCode === null;
    if (isRunning && child.pid) process.kill(-child.pid, 'SIGKILL');
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  await expect.poll(() => output, { interval: 50 }).toContain('Ctrl-C stops the cluster');

  const results = [];
  for (const line of others) results.push(await checkout.type(line));
  expect(results).toMatchObject(others.map(() => ({ code: 0, stderr: '' })));
  const status = results.at(-1)?.stdout ?? '';
  expect(status).toContain('Server');
  // The README shows what is printed: the same columns, databases and migrations.
  const shown = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
  expect(shown).toContain(
    status
      .split('\n')
      .find((line) => line.startsWith('database '))
      ?.trimEnd(),
  );
  for (const key of databaseKeys) {
    const row = new RegExp(`^${key} .* ${readMigrations(key).length} applied `, 'm');
    expect(status).toMatch(row);
    expect(shown).toMatch(row);
  }

  const live = /See it, live: {2}(\S+)/.exec(output)?.[1] ?? '';
  expect(await (await fetch(live)).text()).toContain('5 of 5');

  const server = Number(readFileSync(checkout.path('.atriz/plain/postmaster.pid'), 'utf8').split('\n')[0]);
  process.kill(-(child.pid ?? 0), 'SIGINT');
  await ended;
  await expect.poll(() => isAlive(server)).toBe(false);
  expect(existsSync(checkout.path('.atriz/cluster.json'))).toBe(false);
});
