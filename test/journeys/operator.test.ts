// An operator: the commands of docs/operating.md, as they stand, from an empty server to a restored database.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, inject, test } from 'vitest';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { freshEnvironment } from '../support/cli.ts';
import { describeWith, maintain, openPool, serverUrl, uniqueName } from '../support/database.ts';
import { Checkout, commandsUnder } from '../support/journey.ts';

const page = 'docs/operating.md';
/** The commands of the page's crontab, without their time and folder. */
const scheduled = [
  ...readFileSync(join(packageRoot(), page), 'utf8').matchAll(/^ *[\d* ]+ cd \S+ && (npm run .*)$/gm),
].map(([, line = '']) => line);

// pg_dump cannot dump the embedded tracking database.
const canDumpTracking = inject('server').capabilities.includes('background-workers');
const isPossible = (line: string) => canDumpTracking || !/ tracking\b/.test(line.split('#', 1)[0] ?? '');

describeWith(['pg_dump', 'timescaledb'], 'the commands of an operator', () => {
  let checkout: Checkout;
  let mextrack: string;
  beforeAll(() => {
    const environment = freshEnvironment();
    checkout = new Checkout(environment);
    mextrack = new URL(environment.MEXTRACK_DATABASE_URL ?? '').pathname.slice(1);
  });
  const type = async (line: string) => ({ line, ...(await checkout.type(line)) });

  test('deploy on an empty server', async () => {
    const deploy = commandsUnder(page, '## Deploy').filter((line) => line.includes('db:deploy'));
    expect(deploy).toHaveLength(2);
    for (const line of deploy) {
      expect(await type(line)).toMatchObject({ line, code: 0 });
    }
  });

  test('everything on the schedule', async () => {
    expect(scheduled).toHaveLength(5);
    for (const line of scheduled.filter(isPossible)) {
      expect(await type(line)).toMatchObject({ line, code: 0, stderr: '' });
    }
    expect(readdirSync(checkout.path('backups')).length).toBeGreaterThan(0);
  });

  test('restore beside, to look, and in its place', async () => {
    const commands = commandsUnder(page, '## Restore');
    expect(commands).toHaveLength(2);
    for (const line of commands) {
      const [command = ''] = line.split(' #');
      const own = line.includes('--into')
        ? command.replace('mextrack_look', uniqueName('mextrack'))
        : `${command} --yes`;
      expect(await type(own)).toMatchObject({ line: own, code: 0 });
    }
    // The old one, which the restore kept.
    const { rows } = await openPool('mextrack', serverUrl('mextrack', 'postgres')).query<{ name: string }>(
      'SELECT datname AS name FROM pg_database WHERE starts_with(datname, $1)',
      [`${mextrack}_before_`],
    );
    expect(rows).toHaveLength(1);
    await maintain('mextrack', `DROP DATABASE "${rows[0]?.name}"`);
  });
});
