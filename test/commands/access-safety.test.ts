// db:access where somebody works against it, or something fails half way: an owner's functions, lost passwords, grants that only warn.
import { beforeAll, describe, expect, test } from 'vitest';
import { applyAccess } from '../../scripts/access/apply.ts';
import { accessMatrix } from '../../scripts/access/matrix.ts';
import { verifies } from '../../scripts/access/scram-verifier.ts';
import { createDatabasePool, type Pool } from '../../src/index.ts';
import { ArrangedServer, type RoleName } from '../support/access.ts';
import { freshEnvironment, runCli } from '../support/cli.ts';
import { maintain, openPool, serverUrl, uniqueName } from '../support/database.ts';
import { failure } from '../support/failure.ts';

const server = new ArrangedServer();
const role = (name: RoleName) => server.role(name);
let atriz: Pool;
beforeAll(async () => {
  await server.arrange(['atriz', 'pshop']);
  atriz = server.superuser('atriz');
});

const database = (url: string) => new URL(url).pathname.slice(1);
const nowhere = () => serverUrl('pshop', uniqueName('pshop'));
const verifierOf = async (name: string) => {
  const { rows } = await atriz.query<{ verifier: string | null }>(
    'SELECT rolpassword AS verifier FROM pg_authid WHERE rolname = $1',
    [name],
  );
  return rows[0]?.verifier ?? null;
};

test('a superuser who checks, applies and rotates runs nothing that the owner of the database made', async () => {
  const traps = [
    ['format', 'text, name, name'],
    ['format', 'text, name'],
    ['quote_ident', 'name'],
    ['pg_get_userbyid', 'oid'],
    ['current_database', ''],
  ];
  const name = database(server.url('atriz'));
  await server.as('atriz_db_owner', 'atriz', async (owner) => {
    for (const [trap, parameters] of traps) {
      await owner.query(
        `CREATE FUNCTION public.${trap}(${parameters}) RETURNS text LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$`,
      );
    }
    // The driver itself compares so, for the types that it asks for when it connects.
    await owner.query(
      `CREATE FUNCTION public.same("char", "char") RETURNS boolean LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
       CREATE OPERATOR public.= (LEFTARG = "char", RIGHTARG = "char", FUNCTION = public.same)`,
    );
    await owner.query(`ALTER DATABASE "${name}" SET search_path = public, pg_catalog`);
  });
  await using superuser = createDatabasePool({
    connectionString: `${server.url('atriz')}?search_path=pg_catalog`,
    max: 1,
  });
  try {
    await expect(
      superuser.query("SET search_path = public; SELECT format('%I', relname) FROM pg_class"),
    ).rejects.toThrow('ran as');
    await superuser.query('SET search_path = pg_catalog');
    expect((await server.cli('access', 'check', 'atriz')).stdout).toContain('public.same(');
    expect((await server.cli('access', 'apply', 'atriz', '--dry-run')).stderr).toBe('');
    expect(await server.cli('access', 'apply', 'atriz')).toMatchObject({ code: 0, stderr: '' });
    expect(await server.cli('create', 'atriz')).toMatchObject({ code: 0, stderr: '' });
    expect(await server.cli('access', 'rotate', role('atriz_db_owner'))).toMatchObject({
      code: 0,
      stderr: '',
    });
  } finally {
    await superuser.query(`ALTER DATABASE "${name}" RESET search_path`);
    await superuser.query('DROP FUNCTION public.same CASCADE');
    for (const [trap, parameters] of traps) {
      await superuser.query(`DROP FUNCTION public.${trap}(${parameters})`);
    }
  }
});

describe('passwords that were set are shown', () => {
  test.each([[[]], [['--json']]])('when apply fails at a later database %j', async (options) => {
    await atriz.query(`ALTER ROLE "${role('atriz_app')}" PASSWORD NULL`);
    const { ATRIZ_APP_PASSWORD: _, ...environment } = server.environment;
    const { code, stdout } = await runCli(['access', 'apply', 'atriz', 'pshop', ...options], {
      ...environment,
      PSHOP_DATABASE_URL: nowhere(),
    });
    expect(code).toBe(1);
    const shown = options.length > 0 ? Object.values(JSON.parse(stdout).generated)[0] : undefined;
    const password = shown ?? /^ATRIZ_APP_PASSWORD=([\w-]{32})$/m.exec(stdout)?.[1];
    expect(verifies(await verifierOf(role('atriz_app')), String(password))).toBe(true);
  });

  test('and one that was not set is neither shown nor changed: rotate connects to all databases first', async () => {
    const name = role('atriz_reporting');
    const before = await verifierOf(name);
    const { ATRIZ_REPORTING_PASSWORD: _, ...environment } = server.environment;
    const { code, stdout } = await runCli(['access', 'rotate', name], {
      ...environment,
      PSHOP_DATABASE_URL: nowhere(),
    });
    expect(code).toBe(1);
    expect(stdout).not.toContain('_PASSWORD=');
    expect(await verifierOf(name)).toBe(before);
  });

  test('by rotate also to who may not see when the old sessions began', async () => {
    const admin = `${server.prefix}rotator`;
    // On PostgreSQL 16 and later CREATEROLE alone opens no roles of others.
    const { rows } = await atriz.query<{ version: number }>(
      "SELECT current_setting('server_version_num')::int AS version",
    );
    await maintain('atriz', `CREATE ROLE "${admin}" LOGIN PASSWORD 'its-password' CREATEROLE`);
    await maintain('atriz', `GRANT CONNECT ON DATABASE "${database(server.url('pshop'))}" TO "${admin}"`);
    if ((rows[0]?.version ?? 0) >= 160_000) {
      await maintain(
        'atriz',
        `GRANT "${role('pshop_db_owner')}" TO "${admin}" WITH ADMIN TRUE, INHERIT FALSE`,
      );
    }
    const url = new URL(server.url('pshop'));
    url.username = admin;
    url.password = 'its-password';
    const { PSHOP_DB_OWNER_PASSWORD: _, ...environment } = server.environment;
    await server.as('pshop_db_owner', 'pshop', async (session) => {
      await session.query('SELECT 1');
      const rotated = await runCli(['access', 'rotate', role('pshop_db_owner')], {
        ...environment,
        PSHOP_DATABASE_URL: url.href,
      });
      expect(rotated).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('unknown') });
      const password = /^PSHOP_DB_OWNER_PASSWORD=([\w-]{32})$/m.exec(rotated.stdout)?.[1];
      expect(verifies(await verifierOf(role('pshop_db_owner')), password ?? '')).toBe(true);
    });
    await maintain('atriz', `REVOKE CONNECT ON DATABASE "${database(server.url('pshop'))}" FROM "${admin}"`);
  });
});

test('a REVOKE that only warned counts as refused: apply exits 3', async () => {
  const matrix = accessMatrix('pshop', server.prefix);
  const stranger = `${server.prefix}stranger`;
  await maintain('pshop', `CREATE ROLE "${stranger}"`);
  const pshop = server.superuser('pshop');
  // Granted by the superuser on an object of the superuser: the owner of the database may not take it back.
  await pshop.query(
    `CREATE TABLE public.foreign_thing (); GRANT SELECT ON public.foreign_thing TO "${stranger}"`,
  );
  const owner = createDatabasePool({ connectionString: server.urlAs('pshop', 'pshop_db_owner'), max: 1 });
  await pshop.query(`ALTER ROLE "${role('pshop_db_owner')}" PASSWORD 'secret-of-pshop_db_owner'`);
  try {
    const { changes, refused } = await applyAccess(owner, matrix);
    expect(changes).toEqual([]);
    expect(refused.map(({ what }) => what)).toContainEqual(
      expect.stringContaining('stranger has SELECT on TABLE public.foreign_thing'),
    );
  } finally {
    await owner.close();
    await pshop.query('DROP TABLE public.foreign_thing');
  }
});

test("only what runs with its owner's rights gets a search_path; the others are noted, and what an earlier apply broke is mended", async () => {
  const pshop = server.superuser('pshop');
  const application = role('pshop_app');
  await server.as('pshop_db_owner', 'pshop', (owner) =>
    owner.query(
      `CREATE PROCEDURE public.in_parts() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
       CREATE PROCEDURE public.broken() LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$ BEGIN COMMIT; END $$;
       CREATE FUNCTION public.as_owner() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
       CREATE AGGREGATE public.total(int) (SFUNC = int4pl, STYPE = int);
       CREATE TYPE public.floats AS RANGE (subtype = float8)`,
    ),
  );
  // As an earlier apply did it.
  await pshop.query(
    `ALTER FUNCTION public.floats(float8, float8) SET search_path = pg_catalog, public, pg_temp;
     REVOKE EXECUTE ON FUNCTION public.floats(float8, float8) FROM PUBLIC;
     GRANT EXECUTE ON FUNCTION public.floats(float8, float8) TO "${application}"`,
  );
  try {
    const checked = await server.cli('access', 'check', 'pshop');
    expect(checked.stdout).toContain(
      'note: ROUTINE public.in_parts() runs with the search_path of its caller',
    );
    expect(checked.stderr).toContain('public.as_owner() runs with the rights of its owner');
    expect(await server.cli('access', 'apply', 'pshop')).toMatchObject({ code: 0, stderr: '' });
    expect(await server.cli('access', 'check', 'pshop')).toMatchObject({ code: 0, stderr: '' });
    await pshop.query('CALL public.in_parts()');
    await pshop.query('CALL public.broken()');
    const { rows } = await pshop.query(
      `SELECT proname AS name, proconfig AS settings, has_function_privilege('public', oid, 'EXECUTE') AS public
       FROM pg_proc WHERE proname IN ('in_parts', 'broken', 'as_owner', 'total', 'floats') ORDER BY proname, pronargs`,
    );
    expect(rows).toEqual([
      { name: 'as_owner', settings: ['search_path=pg_catalog, public, pg_temp'], public: false },
      { name: 'broken', settings: null, public: false },
      { name: 'floats', settings: null, public: true },
      { name: 'floats', settings: null, public: true },
      { name: 'in_parts', settings: null, public: false },
      { name: 'total', settings: null, public: false },
    ]);
    const { rows: granted } = await pshop.query(
      "SELECT FROM pg_proc, aclexplode(proacl) AS a WHERE proname = 'floats' AND a.grantee = to_regrole($1)",
      [application],
    );
    expect(granted).toEqual([]);
  } finally {
    await pshop.query(
      `DROP PROCEDURE public.in_parts(); DROP PROCEDURE public.broken(); DROP FUNCTION public.as_owner();
       DROP AGGREGATE public.total(int); DROP TYPE public.floats`,
    );
  }
});

test('a database whose roles and grants were never applied is named by create and by migrate, and a half made one is finished', async () => {
  const environment = freshEnvironment();
  const line = 'pshop_db: roles and grants were never applied: npm run db:access -- apply pshop\n';
  expect(await runCli(['create', 'pshop', '--no-access'], environment)).toMatchObject({
    code: 0,
    stderr: '',
  });
  expect(await runCli(['create', 'pshop', '--no-access'], environment)).toMatchObject({
    code: 0,
    stderr: '',
  });
  expect(await runCli(['create', 'pshop'], environment)).toMatchObject({ code: 0, stderr: line });
  const migrated = await runCli(['migrate', 'pshop', '--json'], environment);
  expect(migrated).toMatchObject({ code: 0, stderr: line });
  expect(JSON.parse(migrated.stdout)).toMatchObject([{ key: 'pshop' }]);
  // What a create that was killed leaves behind.
  const url = environment.PSHOP_DATABASE_URL ?? '';
  await maintain(
    'pshop',
    `COMMENT ON DATABASE "${database(url)}" IS 'Being created. "npm run db:create" finishes it.'`,
  );
  expect(await runCli(['create', 'pshop'], environment)).toMatchObject({ code: 0, stderr: '' });
  expect(await runCli(['access', 'check', 'pshop'], environment)).toMatchObject({ code: 0 });
});

test('migrate takes nothing from roles of other people; apply does, and names it', async () => {
  const other = `${server.prefix}metabase`;
  await maintain('pshop', `CREATE ROLE "${other}"`);
  const pshop = openPool('pshop', server.url('pshop'), { max: 1 });
  await pshop.query(
    `GRANT SELECT ON orders TO "${other}"; REVOKE SELECT ON orders FROM "${role('pshop_app')}"`,
  );
  expect(await server.cli('migrate', 'pshop')).toMatchObject({ code: 0, stderr: '' });
  const granted = async (name: string) => {
    const { rows } = await pshop.query<{ may: boolean }>(
      "SELECT has_table_privilege($1, 'orders', 'SELECT') AS may",
      [name],
    );
    return rows[0]?.may;
  };
  expect([await granted(other), await granted(role('pshop_app'))]).toEqual([true, true]);
  expect((await server.cli('access', 'apply', 'pshop')).stdout).toContain(
    `REVOKE SELECT ON TABLE public.orders FROM "${other}" CASCADE;`,
  );
  expect(await granted(other)).toBe(false);
});

test('who has to join the owner role is told, by a dry run as well', async () => {
  const environment = freshEnvironment();
  const admin = `${environment.ATRIZ_ROLE_PREFIX}admin`;
  await maintain('pshop', `CREATE ROLE "${admin}" LOGIN PASSWORD 'its-password' CREATEROLE CREATEDB`);
  const url = new URL(environment.PSHOP_DATABASE_URL ?? '');
  url.username = admin;
  url.password = 'its-password';
  const asAdmin = { ...environment, PSHOP_DATABASE_URL: url.href };
  expect(await runCli(['create', 'pshop', '--no-access'], asAdmin)).toMatchObject({ code: 0 });
  const join = `GRANT "${environment.ATRIZ_ROLE_PREFIX}pshop_db_owner" TO "${admin}";`;
  expect((await runCli(['access', 'apply', 'pshop', '--dry-run'], asAdmin)).stdout).toContain(join);
  const applied = await runCli(['access', 'apply', 'pshop'], asAdmin);
  expect(applied).toMatchObject({ code: 0, stdout: expect.stringContaining(join) });
  expect((await runCli(['access', 'apply', 'pshop'], asAdmin)).stdout).toContain('pshop     nothing to do\n');
});

test('an error names the role whose password could not be set, and quotes no verifier', async () => {
  const session = openPool('pshop', server.url('pshop'), { max: 1 });
  await session.query('SET default_transaction_read_only = on');
  const matrix = accessMatrix('pshop', server.prefix);
  const { message } = (await failure(
    applyAccess(session, matrix, { passwordOf: () => 'a-password' }),
  )) as Error;
  expect(message).toContain(`at: the password of ${role('pshop_db_owner')}.`);
  expect(message).not.toContain('SCRAM');
});
