// URLs: what libpq accepts is read, what is wrong is named without its password.
import { describe, expect, test } from 'vitest';
import { formatDatabaseUrl, maskPassword, parseDatabaseUrl, withDatabase } from '../src/database-url.ts';
import { ConfigurationError } from '../src/errors.ts';

describe('parseDatabaseUrl', () => {
  test('reads every part', () => {
    const url = parseDatabaseUrl(
      'postgresql://user%40team:p%3Aw@db.example.com:6432/atriz_core?sslmode=require&application_name=x',
      'X',
    );
    expect(url).toEqual({
      hosts: [{ host: 'db.example.com', port: 6432 }],
      user: 'user@team',
      password: 'p:w',
      database: 'atriz_core',
      sslMode: 'require',
      target: 'any',
      parameters: new Map([['application_name', 'x']]),
    });
  });

  test('reads several hosts, IPv6 and a socket folder', () => {
    expect(parseDatabaseUrl('postgres://a:1,b:2/d', 'X').hosts).toEqual([
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
    ]);
    expect(parseDatabaseUrl('postgres://[::1]/d', 'X').hosts).toEqual([{ host: '::1', port: 5432 }]);
    expect(parseDatabaseUrl('postgres://%2Fvar%2Frun/d', 'X').hosts).toEqual([
      { host: '/var/run', port: 5432 },
    ]);
  });

  test.each([
    ['mysql://u:secret@h/d', 'not a PostgreSQL URL'],
    ['', 'not a PostgreSQL URL'],
    ['postgresql://u:secret@h:abc/d', 'port "abc"'],
    ['postgresql://u:secret@h:0/d', 'port "0"'],
    ['postgresql://u:secret@h:65536/d', 'port "65536"'],
    ['postgresql://u:secret@h', 'names no database'],
    ['postgresql://u:secret@/d', 'names no host'],
    ['postgresql://u:sec%ZZret@h/d', '%25'],
    ['postgresql://u:secret@ho%zz/d', '%25'],
    ['host=localhost user=u password=secret dbname=d', 'not a PostgreSQL URL'],
    ['postgresql://u:secret@h/d?sslmode=yes', 'sslmode "yes" does not exist'],
  ])('refuses %j and says that it is wrong: %s', (text, reason) => {
    const parse = () => parseDatabaseUrl(text, 'SOME_URL');
    expect(parse).toThrow(ConfigurationError);
    expect(parse).toThrow(/^SOME_URL is /);
    expect(parse).toThrow(reason);
    expect(parse).not.toThrow(/secret|sec%ZZret/);
  });

  test('reads what formatDatabaseUrl writes, whatever the characters', () => {
    const parts = { host: '::1', port: 5433, user: 'ü:@/', password: '%?#&=:@/', database: 'a b?' };
    expect(parseDatabaseUrl(formatDatabaseUrl(parts), 'X')).toMatchObject({
      hosts: [{ host: '::1', port: 5433 }],
      user: parts.user,
      password: parts.password,
      database: parts.database,
    });
  });
});

test('maskPassword hides the password wherever it stands', () => {
  expect(maskPassword('postgresql://u:p@ss:w@h/d?password=s3cret&x=1')).toBe(
    'postgresql://u:****@h/d?password=****&x=1',
  );
  expect(maskPassword('u:s3cret@h')).toBe('u:****@h');
  expect(maskPassword('postgresql://u@h:1/d')).toBe('postgresql://u@h:1/d');
});

test('withDatabase keeps everything but the name', () => {
  expect(withDatabase('postgresql://u:p@h:1/old?sslmode=require', 'new')).toBe(
    'postgresql://u:p@h:1/new?sslmode=require',
  );
  expect(withDatabase('postgresql://u@h', 'new')).toBe('postgresql://u@h/new');
});
