// db:access: what was granted or revoked by hand is found and mended; passwords; roles with fewer rights.
import { beforeAll, describe, expect, test } from 'vitest';
import { applyAccess } from '../../src/access/apply.ts';
import { checkAccess } from '../../src/access/check.ts';
import { accessMatrix } from '../../src/access/matrix.ts';
import { verifies } from '../../src/access/verifier.ts';
import { createDatabasePool, type Pool } from '../../src/index.ts';
import { ArrangedServer, roleNames } from '../support/access.ts';
import { freshEnvironment, runCli } from '../support/cli.ts';
import { maintain } from '../support/database.ts';

const server = new ArrangedServer();
const role = (name: (typeof roleNames)[number]) => server.role(name);
let core: Pool;
beforeAll(async () => {
  await server.arrange(['core']);
  core = server.superuser('core');
}, 60_000);

const verifierOf = async (name: string) => {
  const { rows } = await core.query<{ verifier: string | null }>(
    'SELECT rolpassword AS verifier FROM pg_authid WHERE rolname = $1',
    [name],
  );
  return rows[0]?.verifier ?? null;
};

describe('check', () => {
  const owner = () => role('atriz_core_owner');
  const database = () => new URL(server.url('core')).pathname.slice(1);
  const byHand: [string, () => string, () => RegExp][] = [
    [
      'a table',
      () => `GRANT SELECT ON users TO ${role('mextrack_app')}`,
      () => /mextrack_app has SELECT on TABLE public.users$/,
    ],
    [
      'a secret column',
      () => 'GRANT SELECT (password_hash) ON users TO PUBLIC',
      () => /^PUBLIC has SELECT \("password_hash"\) on TABLE public.users$/,
    ],
    [
      'a write',
      () => `GRANT UPDATE (name), DELETE ON users TO ${role('atriz_reporting')}`,
      () => /atriz_reporting has (DELETE|UPDATE \("name"\)) on TABLE public.users$/,
    ],
    [
      'a missing table',
      () => `REVOKE SELECT ON roles FROM ${role('pshop_app')}`,
      () => /pshop_app lacks SELECT on TABLE public.roles$/,
    ],
    [
      'a missing column',
      () => `REVOKE SELECT (email) ON users FROM ${role('atriz_app')}`,
      () => /atriz_app lacks SELECT \("email"\) on TABLE public.users$/,
    ],
    [
      'passing on',
      () => `GRANT SELECT ON users TO ${role('atriz_auth')} WITH GRANT OPTION`,
      () => /atriz_auth may pass on SELECT on TABLE public.users$/,
    ],
    [
      'CONNECT and TEMP',
      () => `GRANT CONNECT, TEMP ON DATABASE "${database()}" TO PUBLIC`,
      () => /^PUBLIC has (CONNECT, TEMPORARY|TEMPORARY, CONNECT) on DATABASE/,
    ],
    [
      'CREATE on public',
      () => 'GRANT CREATE ON SCHEMA public TO PUBLIC',
      () => /^PUBLIC has CREATE on SCHEMA public$/,
    ],
    [
      'a function',
      () => 'GRANT EXECUTE ON FUNCTION set_updated_at() TO PUBLIC',
      () => /^PUBLIC has EXECUTE on ROUTINE public.set_updated_at\(\)$/,
    ],
    [
      'later tables',
      () =>
        `ALTER DEFAULT PRIVILEGES FOR ROLE ${owner()} IN SCHEMA public GRANT SELECT ON TABLES TO ${role('pshop_app')}`,
      () => /pshop_app has SELECT on later TABLES of .*_owner in public$/,
    ],
    [
      'missing later tables',
      () =>
        `ALTER DEFAULT PRIVILEGES FOR ROLE ${owner()} IN SCHEMA public REVOKE DELETE ON TABLES FROM ${role('atriz_auth')}`,
      () => /atriz_auth lacks DELETE on later TABLES of .*_owner in public$/,
    ],
    [
      'later tables of another',
      () => `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ${role('pshop_app')}`,
      () => /pshop_app has SELECT on later TABLES of /,
    ],
    [
      'a membership',
      () => `GRANT ${owner()} TO ${role('mextrack_app')}`,
      () => /mextrack_app is a member of .*_owner$/,
    ],
    [
      'a predefined role',
      () => `GRANT pg_read_all_data TO ${role('atriz_reporting')}`,
      () => /atriz_reporting is a member of pg_read_all_data$/,
    ],
    [
      'an attribute',
      () => `ALTER ROLE ${role('pshop_app')} CREATEDB BYPASSRLS`,
      () => /pshop_app should be NOCREATEDB, NOBYPASSRLS$/,
    ],
    [
      'an owner',
      () => 'ALTER TABLE users OWNER TO CURRENT_USER',
      () => /^TABLE public.users belongs to .* instead of .*_owner$/,
    ],
    [
      'a search_path',
      () => 'ALTER FUNCTION set_updated_at() RESET search_path',
      () => /^ROUTINE public.set_updated_at\(\) runs with the search_path of its caller$/,
    ],
    [
      'row security',
      () => 'ALTER TABLE roles ENABLE ROW LEVEL SECURITY',
      () => /^row security of public.roles is on$/,
    ],
    [
      'a setting',
      () => `ALTER ROLE ${role('atriz_auth')} IN DATABASE "${database()}" SET search_path = elsewhere`,
      () => /^search_path of .*atriz_auth is set to elsewhere$/,
    ],
    [
      'a missing setting',
      () => `ALTER ROLE ${role('atriz_reporting')} IN DATABASE "${database()}" RESET ALL`,
      () => /^default_transaction_read_only of .*atriz_reporting is not on$/,
    ],
  ];

  test.each(byHand)('finds %s changed by hand; apply mends it', async (_, change, found) => {
    const matrix = accessMatrix('core', server.prefix);
    expect(await checkAccess(core, matrix)).toEqual([]);
    await core.query(change());
    const differences = await checkAccess(core, matrix);
    expect(differences).not.toEqual([]);
    for (const { what } of differences) expect(what).toMatch(found());
    const { changes, refused } = await applyAccess(core, matrix);
    expect(changes.map(({ mend }) => mend)).toEqual(
      expect.arrayContaining(differences.map(({ mend }) => mend)),
    );
    expect(refused).toEqual([]);
    expect(await checkAccess(core, matrix)).toEqual([]);
  });

  test('exits 3, names each difference with its mend, and 0 once apply ran', async () => {
    await core.query(
      `GRANT SELECT ON auth_tokens TO ${role('pshop_app')}; REVOKE SELECT ON user_roles FROM ${role('pshop_app')}`,
    );
    const { code, stderr } = await server.cli('access', 'check', 'core');
    expect(code).toBe(3);
    const app = role('pshop_app');
    expect(stderr).toBe(
      `core      ${app} has SELECT on TABLE public.auth_tokens. Mend: REVOKE SELECT ON TABLE public.auth_tokens FROM "${app}" CASCADE;\n` +
        `core      ${app} lacks SELECT on TABLE public.user_roles. Mend: GRANT SELECT ON TABLE public.user_roles TO "${app}";\n` +
        '"npm run db:access -- apply core" mends all of it.\n',
    );
    const json = await server.cli('access', 'check', 'core', '--json');
    expect(json.code).toBe(3);
    expect(JSON.parse(json.stdout)).toMatchObject([{ key: 'core', differences: [{}, {}] }]);
    const dry = await server.cli('access', 'apply', 'core', '--dry-run');
    expect(dry.stdout.trim().split('\n')).toHaveLength(2);
    expect(await server.cli('access', 'check', 'core')).toMatchObject({ code: 3 });
    expect((await server.cli('access', 'apply', 'core')).stdout).toBe('core      2 changes\n');
    expect((await server.cli('access', 'apply', 'core')).stdout).toBe('core      nothing to do\n');
    expect(await server.cli('access', 'check', 'core')).toMatchObject({
      code: 0,
      stdout: 'core      as the matrix says\n',
      stderr: '',
    });
  });
});

test('show prints the matrix without a server', async () => {
  const { code, stdout } = await runCli(['access', 'show'], {});
  expect(code).toBe(0);
  for (const name of roleNames) expect(stdout).toContain(name);
  const json = JSON.parse((await runCli(['access', 'show', 'mextrack', '--json'], {})).stdout);
  expect(json).toEqual([
    { key: 'mextrack', role: 'mextrack_db_owner', may: 'owns' },
    { key: 'mextrack', role: 'mextrack_app', may: 'reads and writes' },
    { key: 'mextrack', role: 'atriz_reporting', may: 'reads, without secrets' },
  ]);
});

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
      stdout: 'core      1 change\n',
    });
    expect(verifies(await verifierOf(name), 'another-password')).toBe(true);
    expect((await server.cli('access', 'apply', 'core')).stdout).toBe('core      1 change\n');
  });

  test('are generated where there is none, and printed once', async () => {
    const name = role('pshop_app');
    await core.query(`ALTER ROLE ${name} PASSWORD NULL`);
    const { PSHOP_APP_PASSWORD: _, ...environment } = server.environment;
    const { stdout } = await runCli(['access', 'apply', 'core'], environment);
    const password = /^PSHOP_APP_PASSWORD=([\w-]{32})$/m.exec(stdout)?.[1];
    expect(verifies(await verifierOf(name), password ?? '')).toBe(true);
    expect((await runCli(['access', 'apply', 'core'], environment)).stdout).toBe('core      nothing to do\n');
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

describe('connected as somebody who is no superuser', () => {
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
    expect(await runCli(['migrate', 'core'], environment)).toMatchObject({ code: 0, stderr: '' });
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
  expect(await runCli(['migrate', 'core'], environment)).toMatchObject({ code: 0, stderr: '' });
  expect(await runCli(['reset', 'core', '--yes'], environment)).toMatchObject({ code: 0, stderr: '' });
  const { rowCount } = await core.query('SELECT 1 FROM pg_roles WHERE starts_with(rolname, $1)', [
    environment.ATRIZ_ROLE_PREFIX,
  ]);
  expect(rowCount).toBe(0);
});
