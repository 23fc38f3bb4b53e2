// db:access check, apply, show: what was granted or revoked by hand is found and mended.
import { beforeAll, describe, expect, test } from 'vitest';
import { applyAccess } from '../../scripts/access/apply.ts';
import { checkAccess } from '../../scripts/access/check.ts';
import { accessMatrix } from '../../scripts/access/matrix.ts';
import type { Pool } from '../../src/index.ts';
import { ArrangedServer, roleNames } from '../support/access.ts';
import { runCli } from '../support/cli.ts';

const server = new ArrangedServer();
const role = (name: (typeof roleNames)[number]) => server.role(name);
let core: Pool;
beforeAll(async () => {
  await server.arrange(['core']);
  core = server.superuser('core');
});

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
      () => 'ALTER FUNCTION set_updated_at() SECURITY DEFINER RESET search_path',
      () =>
        /^ROUTINE public.set_updated_at\(\) runs with the rights of its owner and the search_path of its caller$/,
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
      'a setting of a role in all databases',
      () => `ALTER ROLE ${role('atriz_auth')} SET search_path = elsewhere`,
      () => /^search_path of .*atriz_auth is set to elsewhere in all databases$/,
    ],
    [
      'a setting of all roles',
      () => `ALTER DATABASE "${database()}" SET row_security = off`,
      () => /^row_security of all roles is set to off$/,
    ],
    [
      'a limit of a role',
      () => `ALTER ROLE ${role('atriz_auth')} CONNECTION LIMIT 3 VALID UNTIL '2020-01-01'`,
      () => /atriz_auth should be CONNECTION LIMIT -1, VALID UNTIL 'infinity'$/,
    ],
    [
      "a function of PostgreSQL's",
      () => `GRANT EXECUTE ON FUNCTION pg_read_file(text) TO ${role('pshop_app')}`,
      () => /pshop_app has EXECUTE on ROUTINE pg_catalog.pg_read_file\(.*text\)$/,
    ],
    [
      "a table of PostgreSQL's, in part",
      () => 'GRANT SELECT (rolpassword) ON pg_authid TO PUBLIC',
      () => /^PUBLIC has SELECT \("rolpassword"\) on TABLE pg_catalog.pg_authid$/,
    ],
    [
      'a way to another server',
      () =>
        `CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
         ALTER SERVER elsewhere OWNER TO ${owner()}; GRANT USAGE ON FOREIGN SERVER elsewhere TO PUBLIC;
         CREATE USER MAPPING FOR ${role('mextrack_app')} SERVER elsewhere;
         CREATE USER MAPPING FOR PUBLIC SERVER elsewhere`,
      () =>
        /(PUBLIC has USAGE on FOREIGN SERVER elsewhere|(PUBLIC|mextrack_app) has a user mapping for the foreign server elsewhere)$/,
    ],
    ['a policy', () => 'CREATE POLICY mine ON roles', () => /^public.roles has the policy mine$/],
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
    expect((await server.cli('access', 'apply', 'core')).stdout).toContain('core      2 changes\n');
    expect((await server.cli('access', 'apply', 'core')).stdout).toContain('core      nothing to do\n');
    expect(await server.cli('access', 'check', 'core')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/\n\ncore {6}as the matrix says\n(core {6}note: .*\n)+$/),
      stderr: '',
    });
  });

  test('notes what it does not decide: foreign servers, databases for everybody, large objects', async () => {
    await core.query(
      `CREATE FOREIGN DATA WRAPPER sheets; CREATE SERVER sheet FOREIGN DATA WRAPPER sheets;
       CREATE USER MAPPING FOR ${owner()} SERVER sheet OPTIONS (password 's3cr3t')`,
    );
    const { code, stdout } = await server.cli('access', 'check', 'core');
    expect(code).toBe(0);
    expect(stdout).toContain('there is a foreign server sheet (sheets) of postgres, with user mappings for ');
    expect(stdout).not.toContain('s3cr3t');
    expect(stdout).toContain('every role may connect to postgres');
    // The mend that the note names is one.
    const [, mend = ''] = /every role may make large objects.*: (REVOKE [^;]*);/.exec(stdout) ?? [];
    await core.query(`${mend}; DROP FOREIGN DATA WRAPPER sheets CASCADE`);
    await expect(
      server.as('mextrack_app', 'core', (db) => db.query('SELECT lo_create(0)')),
    ).rejects.toMatchObject({
      code: '42501',
    });
    const { notes } = JSON.parse((await server.cli('access', 'check', 'core', '--json')).stdout)[0];
    expect(String(notes)).not.toMatch(/large objects|foreign server sheet/);
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
