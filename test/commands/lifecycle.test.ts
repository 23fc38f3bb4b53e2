// What operators run, as they run it: create, migrate, status, seed, doctor, clean, reset.
import { beforeAll, describe, expect, test } from 'vitest';
import { definitionOf } from '../../src/databases.ts';
import { createDatabasePool } from '../../src/index.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import { freshEnvironment, runCli } from '../support/cli.ts';
import { openPool, possibleKeys } from '../support/database.ts';
import { doctor } from '../support/doctor.ts';

const environment = freshEnvironment();
const keys = possibleKeys();
const cli = (...args: string[]) => runCli(args, environment);
const urlOf = (key: (typeof keys)[number]) => environment[definitionOf(key).urlVariable] ?? '';
const counts = async (key: (typeof keys)[number]) => {
  const pool = createDatabasePool({ key: key, connectionString: urlOf(key) });
  try {
    const { rows } = await pool.query<{ name: string }>(
      "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1",
    );
    const entries = rows.map(async ({ name }) => [
      name,
      (await pool.query(`SELECT 1 FROM "${name}"`)).rowCount,
    ]);
    return Object.fromEntries(await Promise.all(entries)) as Record<string, number>;
  } finally {
    await pool.close();
  }
};

// One story: each step starts where the one before it ended.
describe('from nothing to seeded databases and back', () => {
  beforeAll(async () => {
    const status = await cli('status', ...keys, '--json');
    expect(status.code).toBe(1);
    expect(JSON.parse(status.stdout)).toHaveLength(keys.length);
    expect(status.stdout).toContain('does not exist. Create it with');
  });

  test('create makes what is missing, and says what exists already', async () => {
    const first = await cli('create', ...keys);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout.match(/ created$/gm)).toHaveLength(keys.length);
    const second = await cli('create', ...keys, '--json');
    expect(JSON.parse(second.stdout)).toMatchObject(keys.map((key) => ({ key, created: false })));
    const pool = openPool('core', urlOf('core'));
    const { rows } = await pool.query(
      'SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE setrole = 0 AND datname = current_database()',
    );
    expect(rows).toEqual([{ setconfig: ['TimeZone=UTC'] }]);
  });

  test('status shows what is pending', async () => {
    const { code, stdout } = await cli('status', ...keys);
    expect(code).toBe(0);
    expect(await cli('migrate', 'status', 'core', '--check')).toMatchObject({ code: 3 });
    const pending = readMigrations('core').map(({ tag }) => tag);
    expect(stdout).toMatch(new RegExp(`core\\s+\\S.*0 applied, ${pending.length} pending`));
    expect(stdout).toContain(`core: pending ${pending.join(', ')}: "npm run db:migrate:core" applies them.`);
  });

  test('migrate applies everything in order, and nothing the second time', async () => {
    const first = await cli('migrate', ...keys, '--json');
    expect(first.code).toBe(0);
    expect(JSON.parse(first.stdout)).toEqual(
      keys.map((key) => ({ key, applied: readMigrations(key).map(({ tag }) => tag) })),
    );
    const second = await cli('migrate', 'up', ...keys);
    expect(second.stdout.match(/nothing to do/g)).toHaveLength(keys.length);
    const status = JSON.parse((await cli('status', ...keys, '--json')).stdout);
    expect(status).toMatchObject(
      keys.map((key) => ({ key, isReachable: true, migrations: { pending: [], edited: [] } })),
    );
    expect(status[0]).toMatchObject({
      serverVersion: expect.stringMatching(/^1\d/),
      tables: expect.any(Array),
    });
  });

  test.skipIf(!keys.includes('tracking'))('status shows chunks and policies of tracking', async () => {
    const [tracking] = JSON.parse((await cli('status', 'tracking', '--json')).stdout);
    expect(tracking.extensions).toEqual(
      expect.arrayContaining([expect.objectContaining({ name: 'timescaledb' })]),
    );
    expect(tracking.timescale.hypertables).toMatchObject([
      { name: 'location_events', chunks: 0 },
      { name: 'location_hourly' },
    ]);
    const policies = tracking.timescale.policies.map((policy: Record<string, unknown>) => [
      policy.policy,
      policy.relation,
      policy.settings,
    ]);
    expect(policies).toEqual([
      ['compression', 'location_events', expect.objectContaining({ 'compress after': '7 days' })],
      ['retention', 'location_events', expect.objectContaining({ 'drop after': '30 days' })],
      [
        'refresh continuous aggregate',
        'location_hourly',
        expect.objectContaining({ 'start offset': '7 days', 'end offset': '01:00:00' }),
      ],
      [
        'refresh continuous aggregate',
        'location_hourly',
        expect.objectContaining({ 'start offset': '28 days', 'end offset': '7 days' }),
      ],
      ['retention', 'location_hourly', expect.objectContaining({ 'drop after': '1 year' })],
    ]);
  });

  test('seed fills every database, and a second time changes nothing', async () => {
    expect(await cli('seed', ...keys)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('core      002_users.js  12 rows added'),
      stderr: '',
    });
    const before = await Promise.all(keys.map(counts));
    expect(before[0]).toMatchObject({ users: 6, roles: 6, user_roles: 6 });
    for (const tables of before) expect(Math.max(...Object.values(tables))).toBeGreaterThan(0);
    const again = await cli('prepare', ...keys);
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).toContain('core      002_users.js  nothing new');
    expect(again.stdout).not.toContain('added');
    expect(await Promise.all(keys.map(counts))).toEqual(before);
  });

  test('the doctor finds nothing in what they made', async () => {
    expect(await doctor(environment, ...keys)).toEqual({ code: 0, findings: [] });
  });

  test('clean empties the tables and keeps structure and history', async () => {
    const refused = await cli('clean', ...keys);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('add --yes') });
    expect(await counts('core')).toMatchObject({ users: 6 });

    expect(await cli('clean', ...keys, '--yes')).toMatchObject({ code: 0, stderr: '' });
    for (const key of keys) expect(new Set(Object.values(await counts(key)))).toEqual(new Set([0]));
    const status = JSON.parse((await cli('status', ...keys, '--json')).stdout);
    for (const { migrations } of status) expect(migrations.isInStep).toBe(true);
    expect(await cli('status', ...keys, '--check')).toMatchObject({ code: 0 });
    if (keys.includes('tracking')) {
      const pool = openPool('tracking', urlOf('tracking'));
      expect((await pool.query('SELECT 1 FROM location_hourly')).rowCount).toBe(0);
    }
    expect(await cli('seed', 'core')).toMatchObject({ code: 0 });
  });

  test('reset drops, creates, migrates and seeds', async () => {
    const pool = createDatabasePool({ connectionString: urlOf('core') });
    await pool.query('CREATE TABLE leftover (id int)');
    await pool.close();
    const { code, stdout, stderr } = await cli('reset', ...keys, '--yes');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('core      dropped and created');
    expect(await counts('core')).toMatchObject({ users: 6 });
    expect(await counts('core')).not.toHaveProperty('leftover');
  });

  test.each(['prepare', 'seed', 'clean', 'reset'])('%s refuses production', async (command) => {
    const { code, stderr } = await runCli(
      ['clean', 'reset'].includes(command) ? [command, '--yes'] : [command],
      {
        ...environment,
        NODE_ENV: 'production',
      },
    );
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `NODE_ENV is "production": ${command} is for development and was not run.\n`,
    });
    expect(await counts('core')).toMatchObject({ users: 6 });
  });
});

test('reset drops nothing when one of the servers does not answer, and says which', async () => {
  const before = await counts('core');
  const { code, stderr } = await runCli(['reset', 'core', 'pshop', '--yes'], {
    ...environment,
    PSHOP_DATABASE_URL: 'postgresql://user@127.0.0.1:1/pshop_db',
  });
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('The server of pshop_db (PSHOP_DATABASE_URL): postgres at 127.0.0.1:1'),
  });
  expect(await counts('core')).toEqual(before);
});

test('an unreachable server is a sentence, not a stack trace, and never a password', async () => {
  for (const command of ['create', 'migrate', 'seed', 'status']) {
    const { code, stdout, stderr } = await runCli([command, 'core'], {
      SHARED_DATABASE_URL: 'postgresql://user:s3cret@127.0.0.1:1/atriz_core',
    });
    expect(code).toBe(1);
    expect(stdout + stderr).toContain('atriz_core at 127.0.0.1:1: no server answers there');
    expect(stdout + stderr).not.toMatch(/s3cret|at .*\.ts:\d/);
  }
});
