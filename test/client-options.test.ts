// sslmode means what libpq says, and nothing is sent in the clear where SSL was demanded.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { clientOptions } from '../src/client-options.ts';
import { parseDatabaseUrl } from '../src/database-url.ts';
import { openPool, openSessionPool, serverUrl } from './support/database.ts';

const folder = mkdtempSync(join(tmpdir(), 'atriz-ssl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const certificate = join(folder, 'root.crt');
writeFileSync(certificate, 'certificate');

const options = (query: string, more = {}) =>
  clientOptions(more, parseDatabaseUrl(`postgresql://u:p@db.example.com:6432/atriz_core${query}`, 'X'));

describe('sslmode', () => {
  test.each([
    ['', false],
    ['?sslmode=disable', false],
    ['?sslmode=allow', 'prefer'],
    ['?sslmode=prefer', 'prefer'],
    ['?sslmode=require', { rejectUnauthorized: false }],
    ['?sslmode=verify-ca', { rejectUnauthorized: true, checkServerIdentity: expect.any(Function) }],
    ['?sslmode=verify-full', { rejectUnauthorized: true }],
  ])('%j becomes %j', (query, ssl) => {
    expect(options(query).ssl).toEqual(ssl);
  });

  test('a root certificate is read, and makes require verify it', () => {
    const ca = Buffer.from('certificate');
    expect(options(`?sslmode=verify-full&sslrootcert=${certificate}`).ssl).toEqual({
      ca,
      rejectUnauthorized: true,
    });
    expect(options(`?sslmode=require&sslrootcert=${certificate}`).ssl).toMatchObject({
      ca,
      rejectUnauthorized: true,
    });
  });

  test('the option wins over the URL', () => {
    expect(options('?sslmode=require', { ssl: false }).ssl).toBe(false);
  });

  test('prefer works with a server without SSL, require refuses it', async () => {
    const plain = openPool('core', `${serverUrl('core', 'postgres')}?sslmode=prefer`);
    const offersSsl = (await plain.query("SELECT current_setting('ssl') = 'on' AS ssl")).rows[0]?.ssl;
    const strict = openSessionPool('core', `${serverUrl('core', 'postgres')}?sslmode=require`);
    if (offersSsl) await expect(strict.query('SELECT 1')).resolves.toMatchObject({ rowCount: 1 });
    else await expect(strict.query('SELECT 1')).rejects.toThrow(/sslmode/);
  });
});

test('timeouts, session settings and hosts become what postgres.js takes', () => {
  expect(
    options('', { connectTimeoutMs: 1500, idleTimeoutMs: 2500, statementTimeoutMs: 3500, max: 4 }),
  ).toMatchObject({
    host: ['db.example.com'],
    port: [6432],
    database: 'atriz_core',
    user: 'u',
    password: 'p',
    connect_timeout: 1.5,
    idle_timeout: 2.5,
    max: 4,
    prepare: true,
    connection: { TimeZone: 'UTC', statement_timeout: 3500, application_name: 'atriz atriz_core' },
  });
  const defaults = options('?connect_timeout=3');
  expect(defaults).toMatchObject({ connect_timeout: 3, idle_timeout: 60, max: 10 });
  expect(options('', { idleTimeoutMs: 0 })).not.toHaveProperty('idle_timeout');
});

test('what libpq and other clients keep for themselves is not sent to the server', () => {
  const { connection } = options(
    '?channel_binding=require&keepalives=1&schema=public&password=x&work_mem=8MB',
  );
  expect(Object.keys(connection ?? {}).sort()).toEqual(['TimeZone', 'application_name', 'work_mem']);
  expect(options('?connect_timeout=0').connect_timeout).toBe(0);
  expect(() => options('?connect_timeout=soon')).toThrow('connect_timeout "soon" is not a number');
});

test('behind a transaction-pooling proxy: no prepared statements, and no parameter that it would refuse', () => {
  for (const proxied of [
    options('?pgbouncer=true', { statementTimeoutMs: 5 }),
    options('', { pgbouncer: true }),
  ]) {
    expect(proxied.prepare).toBe(false);
    expect(Object.keys(proxied.connection ?? {}).sort()).toEqual(['TimeZone', 'application_name']);
  }
});
