// The line that says where a command works, and what it takes to empty databases of another machine.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { environmentFor, runCli } from '../support/cli.ts';
import { migratedDatabase, openSessionPool, uniqueRolePrefix } from '../support/database.ts';

const nowhere = 'postgresql://me:hush@127.0.0.1:1';

function folderWith(file: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-where-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, '.env'), file);
  return folder;
}

describe('the first line', () => {
  const file = `SHARED_DATABASE_URL=${nowhere}/atriz_core\nPSHOP_DATABASE_URL=${nowhere}/pshop_db\n`;

  test('names the server, and .env or the environment as its source', async () => {
    const cwd = folderWith(`${file}SHARED=1`);
    const fromFile = await runCli(['status', 'core'], {}, { cwd });
    expect(fromFile.stdout).toMatch(/^Server 127\.0\.0\.1:1, from \.env\.\n\n/);
    expect(`${fromFile.stdout}${fromFile.stderr}`).not.toContain('hush');
    const set = await runCli(['status', 'core'], environmentFor('core', `${nowhere}/atriz_core`), { cwd });
    expect(set.stdout).toMatch(/^Server 127\.0\.0\.1:1, from the environment\.\n\n/);
  });

  test('names each server where there are several', async () => {
    const other = { ...environmentFor('pshop', 'postgresql://me@localhost:2/pshop_db') };
    const { stdout } = await runCli(['migrate', 'status', 'core', 'pshop'], other, { cwd: folderWith(file) });
    expect(stdout).toMatch(
      /^Servers: core on 127\.0\.0\.1:1; pshop on localhost:2, from \.env and the environment\.\n/,
    );
  });

  test('is not in JSON, nor in the SQL of a dry run', async () => {
    const environment = environmentFor('core', await migratedDatabase('core'));
    const json = await runCli(['migrate', 'status', 'core', '--json'], environment);
    expect(() => JSON.parse(json.stdout)).not.toThrow();
    const { stdout } = await runCli(['migrate', 'core', '--dry-run'], environment);
    expect(stdout).not.toContain('Server ');
  });
});

describe('on another machine', () => {
  test.each(['clean', 'reset'])('%s takes --yes together with the name of the host only', async (command) => {
    const url = new URL(await migratedDatabase('pshop'));
    await using db = openSessionPool('pshop', url.href);
    await db.query('CREATE TABLE witness AS SELECT 1 AS a');
    // The same server by a name that does not look like this machine: getaddrinfo reads it as 127.0.0.1.
    if (['127.0.0.1', 'localhost'].includes(url.hostname)) url.hostname = '127.1';
    const environment = { ...environmentFor('pshop', url.href), ATRIZ_ROLE_PREFIX: uniqueRolePrefix() };
    const attempt = (...options: string[]) => runCli([command, 'pshop', ...options], environment);
    for (const options of [[], ['--yes'], ['--yes', '--host', 'db.example'], ['--host', url.hostname]]) {
      const { code, stderr } = await attempt(...options);
      expect({ options, code }).toEqual({ options, code: 2 });
      expect(stderr).toContain(`${url.pathname.slice(1)} on ${url.hostname}:${url.port} will `);
      expect(stderr).toContain(
        options.includes('db.example')
          ? '--host names db.example'
          : `not this machine, so nothing was done: add --yes --host ${url.hostname} to go on.`,
      );
      expect((await db.query('SELECT FROM witness')).rowCount).toBe(1);
    }
    expect((await attempt('--yes', '--host', url.hostname)).code).toBe(0);
    await using after = openSessionPool('pshop', url.href);
    const { rows } = await after.query("SELECT to_regclass('witness') AS name");
    expect(rows).toEqual([{ name: command === 'clean' ? 'witness' : null }]);
    if (command === 'clean') expect((await after.query('SELECT FROM witness')).rowCount).toBe(0);
  });
});
