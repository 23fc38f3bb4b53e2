// What a server, a database or a role sets for its sessions changes no value that is read or written.
import { beforeAll, expect, test } from 'vitest';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { createDatabasePool, type Pool } from '../../src/index.ts';
import { describeWith, emptyDatabase, openSessionPool, serverUrl } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';

/** Each differs from what the package assumes, and changes what some statement says. */
const hostile = {
  TimeZone: 'America/Argentina/Buenos_Aires',
  DateStyle: 'SQL, DMY',
  IntervalStyle: 'sql_standard',
  standard_conforming_strings: 'off',
  bytea_output: 'escape',
  extra_float_digits: '-15',
  array_nulls: 'off',
  backslash_quote: 'off',
  transform_null_equals: 'on',
  xmloption: 'document',
  xmlbinary: 'hex',
  quote_all_identifiers: 'on',
};
const keptByPgBouncer = ['TimeZone', 'DateStyle', 'standard_conforming_strings'];

async function expectRightValues(db: Pool): Promise<void> {
  const at = new Date('2026-03-04T05:06:07.089Z');
  const bytes = Buffer.from([0, 39, 92, 222, 173]);
  const read = `SELECT $1::timestamptz AS at, $2::bytea AS bytes, '2026-03-04'::date AS day,
    0.1::float8 + 0.2::float8 AS sum, '{NULL}'::text[] AS list, 'a\\b' AS text, NULL = NULL AS unknown,
    '-1 day -2 hours'::interval::text AS span, current_setting('xmloption') AS xml,
    current_setting('xmlbinary') AS element, quote_ident('plain') AS name, E'it\\'s' AS quoted`;
  expect((await db.query(read, [at, bytes])).rows).toEqual([
    {
      at,
      bytes,
      day: new Date('2026-03-04T00:00:00Z'),
      sum: 0.1 + 0.2,
      list: [null],
      text: 'a\\b',
      unknown: null,
      span: '-1 days -02:00:00',
      // Their effect needs a server with libxml.
      xml: 'content',
      element: 'base64',
      name: 'plain',
      quoted: "it's",
    },
  ]);
}

let url: string;
let name: string;

beforeAll(async () => {
  url = await emptyDatabase('core');
  name = parseDatabaseUrl(url, 'url').database;
  await using db = createDatabasePool({ connectionString: url, max: 1 });
  for (const [setting, value] of Object.entries(hostile)) {
    await db.query(`ALTER DATABASE "${name}" SET ${setting} TO '${value.replace(', ', "', '")}'`);
  }
});

test('a pool asks for what it assumes', async () => {
  const db = openSessionPool('core', url);
  await expectRightValues(db);
  await db.sql.begin('read only', async (sql) => {
    expect(await sql`SELECT '2026-03-04'::date AS day`).toMatchObject([{ day: new Date('2026-03-04') }]);
  });
});

test('a URL cannot ask for others', () => {
  for (const [setting, value] of Object.entries(hostile)) {
    const connectionString = `${url}?${setting.toLowerCase()}=${encodeURIComponent(value)}`;
    expect(() => createDatabasePool({ connectionString })).toThrow(`always have ${setting}`);
  }
  const same = createDatabasePool({
    connectionString: `${url}?timezone=Etc/UTC&datestyle=ISO&client_encoding=utf8`,
  });
  expect(same.name).toBe(name);
});

describeWith(['pgbouncer'], 'behind PgBouncer in transaction mode', () => {
  test('what it keeps is asked for; of the others, the statement that mends them is said before a value is wrong', async () => {
    const bouncer = await startPgBouncer(serverUrl('core', 'postgres'));
    await using direct = createDatabasePool({ connectionString: url, max: 1 });
    try {
      await using refused = createDatabasePool({ connectionString: bouncer.url(name) });
      const error = await failure(refused.query('SELECT 1'));
      expect(error).toMatchObject({ name: 'ConfigurationError' });
      const { message } = error as Error;
      for (const [setting, value] of Object.entries(hostile)) {
        const isNamed = message.includes(`${setting} ${value}`);
        expect(isNamed, setting).toBe(!keptByPgBouncer.includes(setting));
      }
      const mend = message.slice(message.indexOf('ALTER ROLE'), message.lastIndexOf('; then'));
      for (const statement of mend.split('; ')) await direct.query(statement);
    } finally {
      await bouncer.stop();
    }
    // Its sessions began before: it must connect again.
    const again = await startPgBouncer(serverUrl('core', 'postgres'));
    try {
      await using db = createDatabasePool({ connectionString: again.url(name) });
      await Promise.all(Array.from({ length: 5 }, () => expectRightValues(db)));
    } finally {
      await again.stop();
      await direct.query(`ALTER ROLE CURRENT_USER IN DATABASE "${name}" RESET ALL`);
    }
  });

  test('without pgbouncer=true, the first query fails and says what to add, where the login passes', async () => {
    const bouncer = await startPgBouncer(
      serverUrl('core', 'postgres'),
      5,
      `ignore_startup_parameters = ${Object.keys(hostile)}`,
    );
    const plain = bouncer.url('postgres').replace(/\?.*/, '');
    try {
      await using db = createDatabasePool({ connectionString: plain });
      const queries = Array.from({ length: 200 }, (_, n) => failure(db.query('SELECT $1::int', [n])));
      for (const error of await Promise.all(queries)) {
        expect(error).toMatchObject({ name: 'ConfigurationError' });
        expect(String(error)).toMatch(
          /postgres at 127\.0\.0\.1:\d+: a proxy .* Add pgbouncer=true to the URL/,
        );
      }
      for (const connectionString of [`${plain}?pgbouncer=false`, `${plain}?pgbouncer=true`]) {
        await using said = createDatabasePool({ connectionString, max: 1 });
        expect((await said.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
      }
    } finally {
      await bouncer.stop();
    }
  });

  test('without pgbouncer=true, the login fails and says what to add', async () => {
    const bouncer = await startPgBouncer(serverUrl('core', 'postgres'));
    try {
      await using db = createDatabasePool({ connectionString: bouncer.url('postgres').replace(/\?.*/, '') });
      expect(await failure(db.query('SELECT 1'))).toMatchObject({
        name: 'ConnectionError',
        message: expect.stringContaining('Add pgbouncer=true to the URL'),
      });
    } finally {
      await bouncer.stop();
    }
  });
});
