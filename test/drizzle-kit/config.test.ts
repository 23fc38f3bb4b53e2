// drizzle-kit connects with a driver of its own: its URL holds what that driver keeps, and nothing is lost silently.
import postgres from 'postgres';
import { afterEach, expect, test, vi } from 'vitest';
import { kitUrl } from '../../scripts/drizzle-kit/config.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { emptyDatabase } from '../support/database.ts';

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
