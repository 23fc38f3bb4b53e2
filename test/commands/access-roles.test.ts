// Passwords of roles, and who may apply the matrix: a superuser, CREATEROLE, an owner, nobody.
import { beforeAll, describe, expect, test } from 'vitest';
import { checkAccess } from '../../scripts/access/check.ts';
import { accessMatrix } from '../../scripts/access/matrix.ts';
import { verifies } from '../../scripts/access/scram-verifier.ts';
import { createDatabasePool, type Pool } from '../../src/index.ts';
import { ArrangedServer, type RoleName } from '../support/access.ts';
import { freshEnvironment, runCli } from '../support/cli.ts';
import { maintain } from '../support/database.ts';

const server = new ArrangedServer();
const role = (name: RoleName) => server.role(name);
let core: Pool;
beforeAll(async () => {
  await server.arrange(['core']);
  core = server.superuser('core');
});

const accessNotApplied = 'atriz_core: roles and grants were never applied: npm run db:access -- apply core\n';

const verifierOf = async (name: string) => {
  const { rows } = await core.query<{ verifier: string | null }>(
    'SELECT rolpassword AS verifier FROM pg_authid WHERE rolname = $1',
    [name],
  );
  return rows[0]?.verifier ?? null;
};

describe('passwords', () => {
  test('from the environment are stored as verifiers, and changed where the variable changed', async () => {
    const variable = 'MEXTRACK_APP_PASSWORD';
    const name = role('mextrack_app');
    const before = await verifierOf(name);
    expect(before).toMatch(/^SCRAM-SHA-256\$4096:/);
    expect(verifies(before, server.environment[variable] ?? '')).toBe(true);
    const environment = { ...server.environment, [variable]: 'another-password' };
    expect(await runCli(['access', 'apply', 'core'], environment)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('core      1 change\n'),
    });
    expect(verifies(await verifierOf(name), 'another-password')).toBe(true);
    expect((await server.cli('access', 'apply', 'core')).stdout).toContain('core      1 change\n');
  });

  test('are generated where there is none, and printed once', async () => {
    const name = role('pshop_app');
    await core.query(`ALTER ROLE ${name} PASSWORD NULL`);
    const { PSHOP_APP_PASSWORD: _, ...environment } = server.environment;
    const { stdout } = await runCli(['access', 'apply', 'core'], environment);
    const password = /^PSHOP_APP_PASSWORD=([\w-]{32})$/m.exec(stdout)?.[1];
    expect(verifies(await verifierOf(name), password ?? '')).toBe(true);
    expect((await runCli(['access', 'apply', 'core'], environment)).stdout).toContain(
      'core      nothing to do\n',
    );
  });

  test('are rotated: the new one is set, and the sessions that began with the old one are listed', async () => {
    const { ATRIZ_AUTH_PASSWORD: old = '', ...environment } = server.environment;
    await server.as('atriz_auth', 'core', async (session) => {
      const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      const { code, stdout } = await runCli(['access', 'rotate', role('atriz_auth'), '--json'], environment);
      expect(code).toBe(0);
      const { password, sessions } = JSON.parse(stdout);
      expect(sessions).toMatchObject([{ pid: rows[0]?.pid, application: expect.any(String) }]);
      const verifier = await verifierOf(role('atriz_auth'));
      expect([verifies(verifier, password), verifies(verifier, old)]).toEqual([true, false]);
      // It goes on.
      await session.query('SELECT 1');
    });
  });

  test('rotate refuses a role that is not in the matrix', async () => {
    const { code, stderr } = await server.cli('access', 'rotate', 'postgres');
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('There is no role "postgres" in the matrix: the roles are'),
    });
  });

  test('of a kind that clients encode differently are refused before anything happens', async () => {
    const environment = { ...server.environment, ATRIZ_APP_PASSWORD: 'pässword' };
    const { code, stderr } = await runCli(['access', 'apply', 'core'], environment);
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^ATRIZ_APP_PASSWORD should/),
    });
    expect(stderr).not.toContain('pässword');
  });
});

describe('connected as somebody who is not a superuser', () => {
  const as = (url: string, name: string) => {
    const changed = new URL(url);
    changed.username = name;
    changed.password = 'its-password';
    return changed.href;
  };
  const makeRole = async (environment: Record<string, string>, attributes: string) => {
    const name = `${environment.ATRIZ_ROLE_PREFIX}admin`;
    await maintain('core', `CREATE ROLE "${name}" LOGIN PASSWORD 'its-password' ${attributes}`);
    return {
      ...environment,
      SHARED_DATABASE_URL: as(environment.SHARED_DATABASE_URL ?? '', name),
      ATRIZ_DATABASE_URL: as(environment.ATRIZ_DATABASE_URL ?? '', name),
    };
  };
  const check = async (url: string, prefix: string) => {
    const pool = createDatabasePool({ connectionString: url, max: 1 });
    return checkAccess(pool, accessMatrix('core', prefix)).finally(() => pool.close());
  };

  test('CREATEROLE and CREATEDB are enough for all of it', async () => {
    const fresh = freshEnvironment();
    const environment = await makeRole(fresh, 'CREATEROLE CREATEDB');
    expect(await runCli(['create', 'core'], environment)).toMatchObject({ code: 0, stderr: '' });
    expect(await runCli(['migrate', 'core'], environment)).toMatchObject({ code: 0, stderr: '' });
    expect(await check(fresh.SHARED_DATABASE_URL ?? '', fresh.ATRIZ_ROLE_PREFIX ?? '')).toEqual([]);
    expect(await runCli(['access', 'apply', 'core'], environment)).toMatchObject({ code: 0, stderr: '' });
    expect(await runCli(['reset', 'core', '--yes'], environment)).toMatchObject({ code: 0, stderr: '' });
    expect(await check(fresh.SHARED_DATABASE_URL ?? '', fresh.ATRIZ_ROLE_PREFIX ?? '')).toEqual([]);
  });

  test('without CREATEROLE the database is made and migrated, and a line says what is missing', async () => {
    const environment = await makeRole(freshEnvironment(), 'CREATEDB');
    const { code, stdout, stderr } = await runCli(['create', 'core'], environment);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining(' created\n') });
    expect(stderr).toMatch(
      /^access of atriz_core is not as the matrix says: this role may not make \d+ changes, such as: CREATE ROLE/,
    );
    expect(await runCli(['migrate', 'core'], environment)).toMatchObject({
      code: 0,
      stderr: accessNotApplied,
    });
    expect(await runCli(['access', 'apply', 'core'], environment)).toMatchObject({ code: 3 });
  });

  test('the owner migrates its own database, and the application can use it', async () => {
    const environment: Record<string, string> = {
      ...freshEnvironment(),
      ATRIZ_DB_OWNER_PASSWORD: 'its-password',
      ATRIZ_APP_PASSWORD: 'its-password',
    };
    expect(await runCli(['create', 'atriz'], environment)).toMatchObject({ code: 0 });
    const { ATRIZ_DATABASE_URL: url = '', ATRIZ_ROLE_PREFIX: prefix } = environment;
    const owner = { ...environment, ATRIZ_DATABASE_URL: as(url, `${prefix}atriz_db_owner`) };
    expect(await runCli(['migrate', 'atriz'], owner)).toMatchObject({ code: 0, stderr: '' });
    expect(await runCli(['access', 'check', 'atriz'], owner)).toMatchObject({ code: 0, stderr: '' });
    const app = createDatabasePool({ connectionString: as(url, `${prefix}atriz_app`), max: 1 });
    await app.query('SELECT * FROM user_profiles').finally(() => app.close());
  });
});

test('create --no-access makes no roles, and neither does migrate or reset after it', async () => {
  const environment = freshEnvironment();
  expect(await runCli(['create', 'core', '--no-access'], environment)).toMatchObject({ code: 0 });
  expect(await runCli(['migrate', 'core'], environment)).toMatchObject({ code: 0, stderr: accessNotApplied });
  expect(await runCli(['reset', 'core', '--yes'], environment)).toMatchObject({
    code: 0,
    stderr: accessNotApplied,
  });
  const { rowCount } = await core.query('SELECT 1 FROM pg_roles WHERE starts_with(rolname, $1)', [
    environment.ATRIZ_ROLE_PREFIX,
  ]);
  expect(rowCount).toBe(0);
});
