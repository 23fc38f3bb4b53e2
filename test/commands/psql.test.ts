// psql on a database of the registry: its own arguments, its own exit code, UTC.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { databaseKeys } from '../../src/databases.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { environmentFor, runCli, runCliProcess } from '../support/cli.ts';
import { migratedDatabase, testWith } from '../support/database.ts';

testWith(['psql'], 'psql connects as the URL says, and ends with its own exit code', async () => {
  const url = await migratedDatabase('core');
  const environment = environmentFor('core', url);
  const query = "SELECT current_database(), current_setting('TimeZone'), to_regclass('users')";
  const answered = await runCliProcess(['psql', 'core', '-X', '-At', '-c', query], environment);
  expect(answered).toEqual({
    code: 0,
    stdout: `${new URL(url).pathname.slice(1)}|UTC|users\n`,
    stderr: '',
  });
  const failed = await runCliProcess(
    ['psql', 'core', '-X', '-v', 'ON_ERROR_STOP=1', '-f', '/dev/null', '-c', 'SELECT nonsense'],
    environment,
  );
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('"nonsense" does not exist') });
});

test('psql takes one database, and says what to install where it is missing', async () => {
  const environment = environmentFor('core', 'postgresql://me:hush@127.0.0.1:1/atriz_core');
  expect(await runCli(['psql'], environment)).toMatchObject({ code: 2 });
  expect(await runCli(['psql', 'all'], environment)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(databaseKeys.join(', ')),
  });
  const { code, stderr } = await runCli(['psql', 'core'], { ...environment, PG_BIN: '/nonexistent' });
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('There is no psql: install') });
});

test('--version is the version of the package', async () => {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  expect(await runCli(['--version'], {})).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
});
