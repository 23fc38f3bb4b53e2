// The migrate command as operators meet it: over several databases, with its exit codes and its questions.
import { describe, expect, test } from 'vitest';
import type { DatabaseKey } from '../../src/databases.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { emptyDatabase, migratedDatabase, openPool } from '../support/database.ts';
import { copyOfProject, tags } from '../support/migrations.ts';

const allOf = (key: DatabaseKey) => tags(readMigrations(key));
const names = async (key: DatabaseKey, url: string) => {
  const pool = openPool(key, url);
  const { rows } = await pool.query<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1",
  );
  return rows.map(({ name }) => name);
};

async function emptyEnvironment(keys: readonly DatabaseKey[]): Promise<Record<string, string>> {
  const settings = await Promise.all(keys.map(async (key) => environmentFor(key, await emptyDatabase(key))));
  return Object.assign({}, ...settings) as Record<string, string>;
}

test('sixteen processes at once over two empty databases: each migration is applied once, all exit 0', async () => {
  // Two: sixteen times the connections of four databases are more than most servers take.
  const keys = ['core', 'atriz'] as const;
  const environment = await emptyEnvironment(keys);
  const runs = await Promise.all(
    Array.from({ length: 16 }, () => runCli(['migrate', ...keys, '--json'], environment)),
  );
  // Nobody made their roles, which each process says.
  const said = ({ stderr }: { stderr: string }) =>
    stderr.replaceAll(/^\w+: roles and grants were never applied: .*\n/gm, '');
  expect(runs.map((run) => `${run.code}${said(run)}${run.code === 0 ? '' : run.stdout}`)).toEqual(
    Array(16).fill('0'),
  );
  const applied = runs.flatMap(({ stdout }) =>
    (JSON.parse(stdout) as { key: string; applied: string[] }[]).flatMap(({ key, applied }) =>
      applied.map((tag) => `${key} ${tag}`),
    ),
  );
  expect(applied.sort()).toEqual(keys.flatMap((key) => allOf(key).map((tag) => `${key} ${tag}`)).sort());
});

describe('a failure', () => {
  test('in core keeps the applications from being started, exit 1', async () => {
    const project = copyOfProject();
    const folder = project.folder('core');
    const broken = folder.nextTag('broken');
    folder.add(broken, 'SELECT nonsense;');
    const keys = ['core', 'atriz', 'pshop'] as const;
    const environment = await emptyEnvironment(keys);
    const { code, stdout, stderr } = await runCli(['migrate', ...keys], environment, {
      cwd: project.root,
      root: project.root,
    });
    expect(code).toBe(1);
    expect(stdout).toContain('core      0001_triggers_and_comments  applied');
    expect(stderr).toMatch(new RegExp(`${broken} of core failed.*\n.*${broken}\\.sql:1:8`));
    expect(stderr).toContain('atriz     not started, because core failed');
    expect(await names('atriz', environment.ATRIZ_DATABASE_URL ?? '')).toEqual([]);
  });

  test('in one application does not touch the others', async () => {
    const project = copyOfProject();
    const folder = project.folder('atriz');
    folder.add(folder.nextTag('broken'), 'SELECT nonsense;');
    const keys = ['core', 'atriz', 'pshop'] as const;
    const environment = await emptyEnvironment(keys);
    const { code, stdout } = await runCli(['migrate', ...keys, '--json'], environment, {
      root: project.root,
    });
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject([
      { key: 'core', applied: allOf('core') },
      {
        key: 'atriz',
        applied: allOf('atriz'),
        error: expect.stringContaining('nonsense'),
      },
      { key: 'pshop', applied: allOf('pshop') },
    ]);
  });
});

test('--dry-run tells, --to stops, and both need sense', async () => {
  const environment = environmentFor('atriz', await emptyDatabase('atriz'));
  const cli = (...args: string[]) => runCli(['migrate', ...args], environment);
  expect((await cli('atriz', '--dry-run')).stdout).toContain('0000_tables  would be applied');
  expect((await cli('up', 'atriz', '--to', '0000_tables')).stdout.match(/applied in/g)).toHaveLength(1);
  expect(await cli('atriz', '--to', '0009_nope')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('no migration "0009_nope"'),
  });
  expect((await cli('atriz')).stdout).toContain('0001_triggers_and_comments  applied');
  expect(await cli('atriz', '--wait', 'soon')).toMatchObject({ code: 2 });
});

test('out of order and edited: exit 3 with the reason, applied or accepted on demand', async () => {
  const project = copyOfProject();
  const folder = project.folder('atriz');
  const environment = environmentFor('atriz', await migratedDatabase('atriz'));
  const cli = (...args: string[]) => runCli(args, environment, { root: project.root });
  folder.add('0002_late', 'CREATE TABLE late (id int);', { when: (folder.entries[0]?.when ?? 0) + 1 });
  expect(await cli('migrate', 'atriz')).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('0002_late of atriz is older'),
  });
  const status = await cli('status', 'atriz', '--check');
  expect(status).toMatchObject({ code: 3, stdout: expect.stringContaining('out of order 0002_late') });
  expect(await cli('migrate', 'atriz', '--allow-out-of-order')).toMatchObject({ code: 0 });

  folder.write('0002_late.sql', 'CREATE TABLE later (id int);');
  expect(await cli('migrate', 'atriz')).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('was edited after it was applied'),
  });
  const repair = await cli('migrate', 'repair', 'atriz');
  expect(repair.code).toBe(2);
  expect(repair.stdout.match(/[0-9a-f]{64}/g)).toHaveLength(2);
  expect(await cli('migrate', 'repair', 'atriz', '--yes')).toMatchObject({ code: 0 });
  expect(await cli('migrate', 'status', 'atriz', '--check')).toMatchObject({ code: 0 });
});

describe('down', () => {
  test('names what it destroys, asks, and refuses production without --yes', async () => {
    const url = await migratedDatabase('mextrack');
    const environment = environmentFor('mextrack', url);
    const down = ['migrate', 'down', 'mextrack', '--count', '2'];
    const tables = await names('mextrack', url);
    const asked = await runCli(down, environment);
    expect(asked).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(
        'destroys table public.drivers, table public.vehicle_assignments, table public.vehicles.',
      ),
    });
    const production = await runCli(down, { ...environment, NODE_ENV: 'production' });
    expect(production).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('NODE_ENV is production'),
    });
    expect(await names('mextrack', url)).toEqual(tables);

    expect(await runCli(['migrate', 'redo', 'mextrack', '--yes'], environment)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/0001_\w+ {2}done.*\n.*0001_\w+ {2}done/),
    });
    expect(await runCli([...down, '--yes'], { ...environment, NODE_ENV: 'production' })).toMatchObject({
      code: 0,
    });
    expect(await names('mextrack', url)).toEqual([]);
  });

  test('wants exactly one database', async () => {
    expect(await runCli(['migrate', 'down'], {})).toMatchObject({ code: 2 });
    expect(await runCli(['migrate', 'down', 'core', 'atriz'], {})).toMatchObject({ code: 2 });
    expect(await runCli(['migrate', 'down', 'core', '--count', '1', '--to', 'x'], {})).toMatchObject({
      code: 2,
    });
  });
});

test('mark adopts a database that exists, history tells of it', async () => {
  const environment = environmentFor('pshop', await emptyDatabase('pshop'));
  const cli = (...args: string[]) => runCli(['migrate', ...args], environment);
  for (const tag of ['0000_tables', '0001_triggers_and_comments']) {
    expect(await cli('mark', 'pshop', tag)).toMatchObject({ code: 0 });
  }
  expect(await cli('mark', 'pshop', '0000_tables')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('already'),
  });
  expect((await cli('pshop')).stdout).toContain('nothing to do');
  expect(JSON.parse((await cli('history', 'pshop', '--json')).stdout)).toMatchObject([
    { key: 'pshop', tag: '0001_triggers_and_comments', action: 'mark', result: 'done' },
    { key: 'pshop', tag: '0000_tables', action: 'mark' },
  ]);
});
