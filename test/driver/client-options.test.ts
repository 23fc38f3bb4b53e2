// sslmode means what libpq says, and nothing is sent in the clear where SSL was demanded.
import { describe, expect, test, vi } from 'vitest';
import { clientOptions } from '../../src/driver/client-options.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { encryptionOf } from '../../src/driver/tls.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { createDatabasePool } from '../../src/index.ts';
import { openPool, openSessionPool, serverUrl } from '../support/database.ts';
import { failure } from '../support/failure.ts';

const options = (query: string, more = {}) =>
  clientOptions(more, parseDatabaseUrl(`postgresql://u:p@db.example.com:6432/atriz_core${query}`, 'X'));

describe('sslmode', () => {
  const encryption = (query: string, ssl?: boolean) =>
    encryptionOf(ssl, parseDatabaseUrl(`postgresql://u:p@db.example.com/atriz_core${query}`, 'X'));

  test.each([
    ['', undefined],
    ['?sslmode=disable', undefined],
    ['?sslmode=allow', { isRequired: false, namesHost: false, options: { rejectUnauthorized: false } }],
    ['?sslmode=prefer', { isRequired: false, namesHost: false, options: { rejectUnauthorized: false } }],
    ['?sslmode=require', { isRequired: true, namesHost: false, options: { rejectUnauthorized: false } }],
    ['?ssl=true', { isRequired: true, namesHost: false, options: { rejectUnauthorized: false } }],
    ['?sslmode=verify-ca', { isRequired: true, namesHost: false, options: { rejectUnauthorized: true } }],
    ['?sslmode=verify-full', { isRequired: true, namesHost: true, options: { rejectUnauthorized: true } }],
    ['?ssl_min_protocol_version=TLSv1.3', { isRequired: true, namesHost: false }],
    ['?sslrootcert=system', { isRequired: true, namesHost: true, options: { rejectUnauthorized: true } }],
  ])('%j becomes %j', (query, wanted) => {
    if (wanted) expect(encryption(query)).toMatchObject(wanted);
    else expect(encryption(query)).toBeUndefined();
  });

  test('the option wins over the URL', () => {
    expect(encryption('?sslmode=require', false)).toBeUndefined();
    expect(encryption('', true)).toMatchObject({ isRequired: true, namesHost: true });
  });

  test.each([
    ['?sslmode=require&sslrootcert=system', 'too weak for sslrootcert=system'],
    ['?sslmode=prefer&sslnegotiation=direct', 'too weak for sslnegotiation=direct'],
    ['?sslmode=verify-full&sslrootcert=/no/such.crt', 'sslrootcert is /no/such.crt, which cannot be read'],
    ['?sslmode=require&sslcert=/no/such.crt', 'sslcert is /no/such.crt, which cannot be read'],
    ['?sslmode=verify-ca&sslcrl=/no/such.crl', 'sslcrl is /no/such.crl, which cannot be read'],
    ['?sslmode=require&sslcrl=/no/such.crl', 'too weak for sslcrl'],
    ['?sslcrl=/no/such.crl', 'sslcrl is /no/such.crl, which cannot be read'],
    ['?sslcert=/no/such.crt', 'sslcert is /no/such.crt, which cannot be read'],
    [`?sslmode=verify-ca&sslcrl=${encodeURIComponent(import.meta.filename)}`, 'cannot be used for TLS'],
    ['?sslmode=require&ssl_max_protocol_version=TLSv1', 'is below ssl_min_protocol_version TLSv1.2'],
  ])('%s is an error before anything is sent', (query, reason) => {
    const connectionString = `postgresql://u:p@127.0.0.1:1/atriz_core${query}`;
    expect(() => createDatabasePool({ connectionString })).toThrow(ConfigurationError);
    expect(() => createDatabasePool({ connectionString })).toThrow(reason);
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

test('settings of the server are sent, and what they should not change goes last', () => {
  const { connection } = options('?keepalives=1&schema=public&work_mem=8MB');
  expect(connection).toMatchObject({
    work_mem: '8MB',
    TimeZone: 'UTC',
    DateStyle: 'ISO, MDY',
    bytea_output: 'hex',
  });
  expect(connection).not.toHaveProperty('schema');
  expect(options('?connect_timeout=0').connect_timeout).toBe(0);
  expect(() => options('?connect_timeout=soon')).toThrow('connect_timeout "soon" is not a number');
  const name = (query: string, more = {}) => options(query, more).connection?.application_name;
  expect(name('?fallback_application_name=f')).toBe('f');
  expect(name('?fallback_application_name=f&application_name=a')).toBe('a');
});

test('PGTARGETSESSIONATTRS leads nowhere: the URL alone says where to connect', async () => {
  for (const target of ['any', 'standby']) {
    vi.stubEnv('PGTARGETSESSIONATTRS', target);
    try {
      expect(
        (await openSessionPool('core', serverUrl('core', 'postgres')).query('SELECT 1 AS one')).rows,
      ).toEqual([{ one: 1 }]);
      expect(process.env.PGTARGETSESSIONATTRS).toBe(target);
    } finally {
      vi.unstubAllEnvs();
    }
  }
});

test('a parameter that the server does not know is named', async () => {
  const db = openSessionPool('core', `${serverUrl('core', 'postgres')}?never_heard_of=1`);
  expect(await failure(db.query('SELECT 1'))).toMatchObject({
    name: 'ConnectionError',
    message: expect.stringContaining('the parameter never_heard_of of the URL is refused'),
  });
});

test('times longer than the longest timer mean never; values that are not a time or a number of connections are refused', () => {
  const never = {
    connectTimeoutMs: Number.POSITIVE_INFINITY,
    maxLifetimeMs: 2 ** 31,
    statementTimeoutMs: 2 ** 31,
  };
  const { connect_timeout, max_lifetime, connection, idle_timeout } = options('', {
    ...never,
    idleTimeoutMs: 2 ** 40,
  });
  expect([connect_timeout, max_lifetime, idle_timeout]).toEqual([0, null, undefined]);
  expect(connection).not.toHaveProperty('statement_timeout');
  for (const wrong of ['connectTimeoutMs', 'idleTimeoutMs', 'maxLifetimeMs', 'statementTimeoutMs']) {
    expect(() => options('', { [wrong]: Number.NaN })).toThrow(`${wrong} is NaN`);
    expect(() => options('', { [wrong]: -1 })).toThrow(`${wrong} is -1`);
  }
  for (const max of [0, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => options('', { max })).toThrow(`max is ${max}`);
  }
});

test('behind a transaction-pooling proxy: no prepared statements, and no parameter that it would refuse', () => {
  for (const proxied of [
    options('?pgbouncer=true', { statementTimeoutMs: 5 }),
    options('', { pgbouncer: true }),
  ]) {
    expect(proxied.prepare).toBe(false);
    expect(Object.keys(proxied.connection ?? {}).sort()).toEqual([
      'DateStyle',
      'TimeZone',
      'application_name',
      'standard_conforming_strings',
    ]);
  }
});
