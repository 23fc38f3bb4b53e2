// drizzle-kit connects with a driver of its own: its URL holds what that driver keeps, and nothing is lost silently.
import postgres from 'postgres';
import { afterEach, expect, test, vi } from 'vitest';
import { kitUrl } from '../../scripts/drizzle-kit/config.ts';
import { kitArguments } from '../../scripts/drizzle-kit/process.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { environmentFor, run } from '../support/cli.ts';
import { emptyDatabase, migratedDatabase, openSessionPool, testWith } from '../support/database.ts';

afterEach(() => vi.unstubAllEnvs());

function kit(url: string): string {
  vi.stubEnv('SHARED_DATABASE_URL', url);
  return kitUrl('core');
}

test('what the server would refuse is left out', () => {
  expect(kit('postgresql://u:a&b@h,i:2/d')).toBe('postgresql://u:a&b@h,i:2/d');
  expect(
    kit('postgresql://u:p@h/d?pgbouncer=true&keepalives=1&work_mem=8MB&sslmode=require&timezone=UTC&supa=x'),
  ).toBe('postgresql://u:p@h/d?sslmode=require&work_mem=8MB');
  expect(kit('postgresql://u:p@h/d?sslrootcert=system')).toBe('postgresql://u:p@h/d?sslmode=verify-full');
  vi.stubEnv('PGSSLMODE', 'require');
  expect(kit('postgresql://u:p@h/d')).toBe('postgresql://u:p@h/d?sslmode=require');
});

test.each([
  ['?require_auth=scram-sha-256', 'require_auth'],
  ['?sslmode=verify-ca&sslrootcert=/ca.crt', 'sslrootcert'],
  ['?sslmode=require&ssl_min_protocol_version=TLSv1.3', 'ssl_min_protocol_version'],
  ['?sslmode=verify-full', 'an IP address with sslmode=verify-full'],
])('%s is refused: that driver would not keep it', (query, lost) => {
  expect(() => kit(`postgresql://u:p@127.0.0.1/d${query}`)).toThrow(ConfigurationError);
  expect(() => kit(`postgresql://u:p@127.0.0.1/d${query}`)).toThrow(`would not keep ${lost} of SHARED_`);
});

test('the driver connects with it', async () => {
  const url = await emptyDatabase('core');
  const sql = postgres(kit(`${url}?pgbouncer=true&keepalives=1&work_mem=8MB`), { max: 1 });
  try {
    expect(await sql`SHOW work_mem`).toEqual([{ work_mem: '8MB' }]);
  } finally {
    await sql.end();
  }
});

/** drizzle-kit push, as a person types it. */
const push = (key: 'core' | 'tracking', url: string, variables: Record<string, string> = {}) =>
  run(
    process.execPath,
    kitArguments(key, 'push', ['--force']),
    { ...environmentFor(key, url), ...variables },
    packageRoot(),
  );

test('push is refused, with what to do instead, unless a variable names the database', async () => {
  const url = await migratedDatabase('core');
  await using db = openSessionPool('core', url, { max: 1 });
  await db.query('CREATE TABLE of_somebody (a int)');
  for (const variables of [{}, { ATRIZ_ALLOW_PUSH: 'tracking' }]) {
    const { code, stderr } = await push('core', url, variables);
    expect(code).toBe(2);
    expect(stderr).toContain('"npm run db:generate -- core --name <name>" writes the change down');
    expect(stderr).not.toMatch(/^\s+at /m);
  }
  expect((await db.query("SELECT to_regclass('of_somebody') AS name")).rows).toEqual([
    { name: 'of_somebody' },
  ]);
  expect(await push('core', url, { ATRIZ_ALLOW_PUSH: 'atriz,core' })).toMatchObject({ code: 0 });
  expect((await db.query("SELECT to_regclass('of_somebody') AS name")).rows).toEqual([{ name: null }]);
});

testWith(
  ['timescaledb', 'background-workers'],
  'and finds nothing to change in tracking: the schema is the catalog',
  async () => {
    const url = await migratedDatabase('tracking');
    const { stdout } = await push('tracking', url, { ATRIZ_ALLOW_PUSH: 'tracking' });
    expect(stdout).toContain('No changes detected');
  },
);
