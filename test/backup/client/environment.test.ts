// From a URL to the environment of pg_dump: what the URL says, and nothing of another server.
import { expect, test } from 'vitest';
import { libpqEnvironment } from '../../../scripts/backup/client/environment.ts';
import { parseDatabaseUrl } from '../../../src/driver/database-url.ts';

const environment = (url: string) => libpqEnvironment(parseDatabaseUrl(url, 'URL'));

test('host, port, user, password and ssl of a URL', () => {
  expect(
    environment(
      'postgresql://me:p%20w@db.example:6543/x%3Dy?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3&require_auth=md5',
    ),
  ).toMatchObject({
    PGHOST: 'db.example',
    PGPORT: '6543',
    PGUSER: 'me',
    PGPASSWORD: 'p w',
    PGDATABASE: 'x=y',
    PGSSLMODE: 'verify-full',
    PGSSLROOTCERT: '/ca.pem',
    PGCONNECT_TIMEOUT: '3',
    PGREQUIREAUTH: 'md5',
  });
});

test('TLS that the URL implies is demanded of pg_dump too', () => {
  expect(environment('postgresql://db/x?sslrootcert=/ca.pem')).toMatchObject({ PGSSLMODE: 'verify-full' });
});

test('a socket folder, an IPv6 address and several hosts', () => {
  expect(environment('postgresql://me@%2Fvar%2Frun%2Fpostgresql/db').PGHOST).toBe('/var/run/postgresql');
  expect(environment('postgresql://me@[::1]:5433/db')).toMatchObject({ PGHOST: '::1', PGPORT: '5433' });
  expect(environment('postgresql://a:1,b:2/db?target_session_attrs=primary')).toMatchObject({
    PGHOST: 'a,b',
    PGPORT: '1,2',
    PGTARGETSESSIONATTRS: 'primary',
  });
});

test('what is set for another server is taken away; a missing user or password is left to the environment', () => {
  const variables = environment('postgresql://db/x');
  for (const name of ['PGHOSTADDR', 'PGSERVICE', 'PGOPTIONS']) {
    expect(Object.hasOwn(variables, name) && variables[name] === undefined, name).toBe(true);
  }
  for (const name of ['PGUSER', 'PGPASSWORD', 'PGSSLMODE', 'PGSSLROOTCERT', 'PGREQUIREAUTH']) {
    expect(Object.hasOwn(variables, name), name).toBe(false);
  }
});
