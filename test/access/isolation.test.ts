// The isolation matrix: every role on every database tries everything, and gets what is written down here.
import { getTableName } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { definitionOf } from '../../src/databases.ts';
import { type DatabaseKey, databaseKeys, type Pool, sqlState } from '../../src/index.ts';
import { ArrangedServer, applicationKeys, ownerOf, type RoleName, roleNames } from '../support/access.ts';

// By hand, from what was promised, and not from scripts/access/matrix.ts: a slip there must show here.
// r reads all columns, c only those without secrets, i inserts, u updates, d deletes, t truncates.
type Cells = Readonly<Record<string, string>>;
const people: Cells = {
  users: 'c',
  auth_tokens: '',
  login_attempts: '',
  roles: 'r',
  user_roles: 'r',
  user_metadata: '',
};
const points = (own: string, other: string): Cells => ({
  [`${own}.location_events`]: 'ri',
  [`${own}.location_hourly`]: 'r',
  [`${other}.location_events`]: '',
  [`${other}.location_hourly`]: '',
  location_events: '',
  location_hourly: '',
  location_writers: 'riud',
});
const all = (cell: string, ...tables: string[]): Cells =>
  Object.fromEntries(tables.map((name) => [name, cell]));
const trackingTables = ['location_events', 'location_writers'];

/** The own database of an application: nobody else's, and read by the reports. */
const own = (key: (typeof applicationKeys)[number]): Partial<Record<RoleName, Cells>> => {
  const values = Object.values(definitionOf(key).schema);
  const tables = values.filter((value) => value instanceof PgTable).map((table) => getTableName(table));
  return {
    [ownerOf(key)]: all('riudt', ...tables),
    [`${key}_app`]: all('riud', ...tables),
    atriz_reporting: all('r', ...tables),
  };
};

const expected: Readonly<Record<string, Partial<Record<RoleName, Cells>>>> = {
  core: {
    atriz_core_owner: all(
      'riudt',
      'users',
      'auth_tokens',
      'login_attempts',
      'roles',
      'user_roles',
      'user_metadata',
    ),
    ...Object.fromEntries(applicationKeys.map((key) => [`${key}_app`, people])),
    atriz_auth: {
      users: 'riu',
      auth_tokens: 'riud',
      login_attempts: 'riud',
      roles: 'r',
      user_roles: 'riud',
      user_metadata: 'r',
    },
    atriz_reporting: {
      users: 'c',
      auth_tokens: 'c',
      login_attempts: 'c',
      roles: 'r',
      user_roles: 'r',
      user_metadata: 'r',
    },
  },
  tracking: {
    atriz_tracking_owner: all('riudt', ...trackingTables),
    mextrack_app: points('mextrack', 'pshop'),
    pshop_app: points('pshop', 'mextrack'),
    atriz_reporting: {
      ...all('r', ...trackingTables, 'location_hourly'),
      ...all('', 'mextrack.location_events', 'pshop.location_events', 'mextrack.location_hourly'),
    },
  },
  ...Object.fromEntries(applicationKeys.map((key) => [key, own(key)])),
};

const secrets = [
  ['users', 'password_hash'],
  ['auth_tokens', 'token_hash'],
  ['login_attempts', 'subject'],
] as const;

const server = new ArrangedServer();
beforeAll(() => server.arrange());

const cells = databaseKeys.flatMap((key) => roleNames.map((role) => ({ key, role })));
const admitted = cells.filter(({ key, role }) => expected[key]?.[role]);
const locked = cells.filter(({ key, role }) => !expected[key]?.[role]);
const isOwner = (role: RoleName) => role.endsWith('_owner');

test.each(locked)('$role cannot connect to $key', async ({ key, role }) => {
  const known = await server
    .superuser(key)
    .query('SELECT 1 FROM pg_roles WHERE rolname = $1', [server.role(role)]);
  // The databases may stand on several servers, each with the roles that it needs.
  const code = known.rowCount === 1 ? '42501' : expect.stringMatching(/^28/);
  await expect(server.as(role, key, (pool) => pool.query('SELECT 1'))).rejects.toMatchObject({ code });
});

describe.each(admitted)('$role on $key', ({ key, role }) => {
  const may = (pool: Pool, statement: string) => isAllowed(pool, statement);

  test('has the privileges on tables that are written down, and no more', async () => {
    const cells = expected[key]?.[role] ?? {};
    const found = await server.as(role, key, async (pool) => {
      const entries = [];
      for (const name of Object.keys(cells)) entries.push([name, await tryTable(pool, name)]);
      return Object.fromEntries(entries);
    });
    expect(found).toEqual(cells);
  });

  test('makes objects only as the owner', async () => {
    const [first] = Object.keys(expected[key]?.[role] ?? {});
    const statements = [
      'CREATE TABLE public.made (id int)',
      'CREATE SCHEMA made',
      'CREATE TEMP TABLE made (id int)',
      `ALTER TABLE ${first} ADD COLUMN made int`,
      `COMMENT ON TABLE ${first} IS 'mine'`,
      'CREATE FUNCTION public.made() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
    ];
    const found = await server.as(role, key, async (pool) => {
      const results = [];
      for (const statement of statements) results.push(await may(pool, statement));
      return results;
    });
    expect(found).toEqual(statements.map(() => isOwner(role)));
  });

  test('becomes nobody else, and makes neither roles nor databases', async () => {
    const others = [
      ...roleNames.filter((other) => other !== role).map((name) => server.role(name)),
      'postgres',
    ];
    await server.as(role, key, async (pool) => {
      const known = await pool.query<{ rolname: string }>(
        'SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)',
        [others],
      );
      expect(known.rows.length).toBeGreaterThan(1);
      for (const { rolname } of known.rows) {
        expect(await may(pool, `SET ROLE "${rolname}"`)).toBe(false);
        // The embedded tracking server lets everybody, because its one backend belongs to postgres.
        if (key === 'tracking' && !server.enforcesLogins) continue;
        expect(await may(pool, `SET SESSION AUTHORIZATION "${rolname}"`)).toBe(false);
      }
      expect(await may(pool, 'CREATE ROLE made_by_a_test')).toBe(false);
      expect(await may(pool, 'ALTER ROLE CURRENT_USER CREATEROLE')).toBe(false);
      await pool.query('SET default_transaction_read_only = off');
      await expect(pool.query('CREATE DATABASE made_by_a_test')).rejects.toMatchObject({ code: '42501' });
    });
  });

  test('sees which migrations were applied, and nothing else of their bookkeeping', async () => {
    await server.as(role, key, async (pool) => {
      expect(await may(pool, 'SELECT * FROM drizzle.__drizzle_migrations')).toBe(true);
      expect(await may(pool, 'DELETE FROM drizzle.__drizzle_migrations')).toBe(isOwner(role));
      expect(await may(pool, 'SELECT * FROM drizzle.migration_history')).toBe(isOwner(role));
    });
  });
});

test.each(roleNames.filter((role) => expected.core?.[role]))('secrets of core: %s', async (role) => {
  const opens = ['atriz_core_owner', 'atriz_auth'].includes(role);
  await server.as(role, 'core', async (pool) => {
    for (const [table, column] of secrets) {
      for (const statement of [
        `SELECT ${column} FROM ${table}`,
        `SELECT count(*) FROM ${table} WHERE ${column} LIKE 'a%'`,
        `SELECT ${table} FROM ${table}`,
        `SELECT to_jsonb(${table}) FROM ${table}`,
        `LOCK ${table} IN ACCESS SHARE MODE; SELECT ${table}.* FROM ${table} ORDER BY ${column}`,
      ]) {
        expect([statement, await isAllowed(pool, statement)]).toEqual([statement, opens]);
      }
    }
  });
});

test('tables that the owner makes after the grants: open where there are no secrets, closed until apply where there are', async () => {
  const before: Partial<Record<DatabaseKey, Partial<Record<RoleName, string>>>> = {
    core: { atriz_auth: 'riud', mextrack_app: '', atriz_reporting: '' },
    tracking: { mextrack_app: '', pshop_app: '', atriz_reporting: 'r' },
    mextrack: { mextrack_app: 'riud', atriz_reporting: 'r' },
  };
  for (const key of ['core', 'tracking', 'mextrack'] as const) {
    await server.as(ownerOf(key), key, (pool) =>
      pool.query('CREATE TABLE later (id int GENERATED BY DEFAULT AS IDENTITY, note text DEFAULT 1)'),
    );
    const look = async () => {
      const roles = Object.keys(before[key] ?? {}) as RoleName[];
      const entries = roles.map(async (role) => [
        role,
        await server.as(role, key, (pool) => tryTable(pool, 'later')),
      ]);
      return Object.fromEntries(await Promise.all(entries));
    };
    expect([key, await look()]).toEqual([key, before[key]]);
    expect(await server.cli('access', 'apply', key)).toMatchObject({ code: 0, stderr: '' });
    const after = { ...before[key], ...(key === 'core' && { atriz_reporting: 'r' }) };
    expect([key, await look()]).toEqual([key, after]);
    await server.as(ownerOf(key), key, (pool) => pool.query('DROP TABLE later'));
  }
});

/** Tries each verb. */
async function tryTable(pool: Pool, name: string): Promise<string> {
  const [schema, table] = name.includes('.') ? name.split('.') : ['public', name];
  const { rows } = await pool.query<{ column: string }>(
    `SELECT quote_ident(a.attname) AS column FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum = 1`,
    [schema, table],
  );
  const [first] = rows;
  if (!first) throw new Error(`There is no ${name}.`);
  const target = `"${schema}"."${table}"`;
  const statements = {
    r: `SELECT * FROM ${target} LIMIT 0`,
    i: `INSERT INTO ${target} DEFAULT VALUES`,
    u: `UPDATE ${target} SET ${first.column} = DEFAULT`,
    d: `DELETE FROM ${target}`,
    t: `TRUNCATE ${target} CASCADE`,
  };
  let letters = '';
  for (const [letter, statement] of Object.entries(statements)) {
    if (await isAllowed(pool, statement)) letters += letter;
  }
  const column =
    letters.includes('r') || !(await isAllowed(pool, `SELECT ${first.column} FROM ${target} LIMIT 0`));
  return column ? letters : `c${letters}`;
}

/**
 * Runs a statement and takes it back. A constraint (23…), a row policy or a check option (44000) that
 * stops the row itself means that the role may; a view that takes no rows at all means that nobody may.
 */
async function isAllowed(pool: Pool, statement: string): Promise<boolean> {
  // Reporting is read-only by a setting, which it may take back: what counts is its privileges.
  await pool.query('BEGIN READ WRITE');
  try {
    await pool.query(statement);
    return true;
  } catch (error) {
    const code = sqlState(error) ?? '';
    if (!/^(42501|55000|42809|23...|44000)$/.test(code)) throw error;
    return /^(23|44)/.test(code);
  } finally {
    await pool.query('ROLLBACK');
  }
}
