// The owner of a database puts functions before PostgreSQL's: the commands of a superuser run none of them.
import { beforeAll, describe, expect, test } from 'vitest';
import { createDatabasePool, type Pool } from '../../src/index.ts';
import { temporaryFolder } from '../support/backups.ts';
import { runCli } from '../support/cli.ts';
import { maintain, migratedDatabase, testWith, uniqueRolePrefix } from '../support/database.ts';

/** What only a trap says that was sprung: its definition, which the doctor shows, has a placeholder there. */
const sprung = /.{0,200}sprung by \w.{0,200}/;

/** Runs a command as the superuser, and says what went otherwise than it should. */
async function run(code: number, ...args: string[]) {
  const result = await runCli(args, environment);
  expect(sprung.exec(result.stdout + result.stderr)?.[0]).toBeUndefined();
  expect({ code: result.code, stderr: result.code === code ? '' : result.stderr.slice(0, 2_000) }).toEqual({
    code,
    stderr: '',
  });
  return result.stdout;
}

/**
 * A function and an operator of the same name and arguments for each of PostgreSQL's, types that check what is
 * cast to them, a view for each table of the catalog, and functions that fit better than a variadic one.
 */
const traps = `
  CREATE FUNCTION public.spring() RETURNS boolean LANGUAGE plpgsql AS
    $f$ BEGIN RAISE EXCEPTION 'sprung by %', current_user; END $f$;
  DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT proname AS name, pg_get_function_arguments(oid) AS arguments, format_type(prorettype, NULL) AS result
      FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND provariadic = 0
    LOOP BEGIN
      EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', one.name,
        regexp_replace(one.arguments, ' DEFAULT [^,]*', '', 'g'), one.result,
        'BEGIN RAISE EXCEPTION ''sprung by %, ' || one.name || ''', current_user; END');
    EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP;
    FOR one IN SELECT oprname AS name, oprleft::regtype AS "left", oprright::regtype AS "right", oprresult::regtype AS result
      FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprleft <> 0
    LOOP BEGIN
      EXECUTE format('CREATE FUNCTION public.trap(%s, %s) RETURNS boolean LANGUAGE plpgsql AS %L', one."left", one."right",
        'BEGIN RAISE EXCEPTION ''sprung by %, operator'', current_user; END');
    EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN
      EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.trap)', one.name, one."left", one."right");
    EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP;
    FOR one IN SELECT unnest('{text,int8,int4,float8,oid,name,bool,uuid,regclass,regtype,regrole,regnamespace,jsonb,timestamptz}'::text[]) AS name
    LOOP
      EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%I CHECK (public.spring())', one.name, one.name);
    END LOOP;
    FOR one IN SELECT relname AS name FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
    LOOP BEGIN
      EXECUTE format('CREATE VIEW public.%I AS SELECT *, public.spring() AS sprung FROM pg_catalog.%I', one.name, one.name);
    EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP;
  END $$;
  CREATE FUNCTION public.format(pg_catalog.text, pg_catalog.name, pg_catalog.name) RETURNS pg_catalog.text LANGUAGE plpgsql AS
    $f$ BEGIN RAISE EXCEPTION 'sprung by %', current_user; END $f$;
  CREATE FUNCTION public.concat_ws(pg_catalog.text, pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS
    $f$ BEGIN RAISE EXCEPTION 'sprung by %', current_user; END $f$;
  CREATE TYPE public.pair AS (a pg_catalog.int4);
  CREATE FUNCTION public.written(public.pair) RETURNS pg_catalog.text LANGUAGE plpgsql AS
    $f$ BEGIN RAISE EXCEPTION 'sprung by %', current_user; END $f$;
  CREATE CAST (public.pair AS pg_catalog.text) WITH FUNCTION public.written(public.pair);
  CREATE TABLE public.odd (pair public.pair);
  INSERT INTO public.odd SELECT ROW(1)::public.pair`;

const owner = `${uniqueRolePrefix()}owner`;
let url: string;
let environment: Record<string, string>;
let coreUrl: string;
const nameOf = (text: string) => new URL(text).pathname.slice(1);

beforeAll(async () => {
  coreUrl = await migratedDatabase('core');
  url = await migratedDatabase('pshop');
  environment = { PSHOP_DATABASE_URL: url, SHARED_DATABASE_URL: coreUrl };
  await maintain('pshop', `CREATE ROLE "${owner}" LOGIN PASSWORD 'of-the-owner'`);
  for (const one of [url, coreUrl]) {
    const name = nameOf(one);
    await maintain('pshop', `ALTER DATABASE "${name}" OWNER TO "${owner}"`);
    const asOwner = new URL(one);
    asOwner.username = owner;
    asOwner.password = 'of-the-owner';
    await using session = createDatabasePool({ connectionString: asOwner.href, max: 1 });
    await session.query(`SET search_path = pg_catalog, public; ${traps}`);
    await session.query(`ALTER DATABASE "${name}" SET search_path = public, pg_catalog`);
  }
});

/** A session as any client of the superuser's has it. */
async function careless(text: string): Promise<unknown> {
  await using session: Pool = createDatabasePool({ connectionString: url, max: 1 });
  return await session.query(text).then(
    () => 'nothing happened',
    (error: Error) => error.message,
  );
}

test.each([
  'SELECT current_database()',
  "SELECT 1 WHERE 'a'::pg_catalog.text = 'b'",
  'SELECT 1::int8',
  'SELECT relname FROM pg_class',
  "SELECT format('%I.%I', n.nspname, n.nspname) FROM pg_catalog.pg_namespace n",
  'SELECT pair::pg_catalog.text FROM public.odd',
])('the traps work: %s', async (text) => {
  expect(await careless(text)).toMatch(sprung);
});

describe('nothing of the owner is run by a superuser who', () => {
  test.each([
    ['asks for the status', ['status', 'pshop', 'core'], 0],
    ['asks for the status as JSON', ['status', 'pshop', '--json'], 0],
    // Drift: none of this is in a migration.
    ['examines', ['doctor', 'pshop', 'core'], 3],
    ['proves the migrations', ['check', 'pshop'], 0],
    ['looks for strangers', ['references', 'pshop'], 0],
    ['has nothing to migrate', ['migrate', 'pshop'], 0],
    ['reads the history', ['migrate', 'history', 'pshop'], 0],
  ])('%s', async (_, args, code) => {
    await run(code, ...args);
  });

  testWith(['pg_dump'], 'backs up, restores and compares', async () => {
    const folder = temporaryFolder();
    await run(0, 'backup', 'pshop', '--to', folder);
    expect(await run(0, 'drill', 'pshop', '--from', 'latest', '--to', folder)).toContain('the same');
  });
});
