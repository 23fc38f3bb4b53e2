// URLs: what libpq accepts is read, what is wrong is named without its password.
import { describe, expect, test } from 'vitest';
import {
  formatDatabaseUrl,
  maskPassword,
  parseDatabaseUrl,
  withDatabase,
} from '../../src/driver/database-url.ts';
import { ConfigurationError } from '../../src/errors.ts';

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
    ['postgresql://u:secret@h:abc/d', 'port is not a number'],
    ['postgresql://u:secret@h:0/d', 'port is not a number'],
    ['postgresql://u:secret@h:65536/d', 'port is not a number'],
    ['postgresql://u:secret@h', 'names no database'],
    ['postgresql://u:secret@/d', 'names no host'],
    ['postgresql://u:sec%ZZret@h/d', '%25'],
    ['postgresql://u:secret@ho%zz/d', '%25'],
    ['host=localhost user=u password=secret dbname=d', 'not a PostgreSQL URL'],
    ['postgresql://u:secret@h/d%00', '%25'],
    ['postgresql://u:secret@h/d?application_name=a%00user%00root', '%25'],
    ['postgresql://u:secret@h/d?sslmode=yes', 'sslmode "yes" does not exist'],
    ['postgresql://u:secret@h/d?SSLMODE=disable', 'SSLMODE has to be in lower case'],
    ['postgresql://u:secret@h/d?ssl=false', 'ssl "false" can only be true'],
    ['postgresql://u:secret@h/d?ssl=true&sslmode=prefer', 'contradict each other'],
    ['postgresql://u:secret@h/d?pgbouncer=yes', 'pgbouncer "yes" can be true or false'],
    ['postgresql://u:secret@h/d?statement-cache-capacity=0', 'hold a wrong name'],
    ['postgresql://u:sec?ret@h/d', 'hold a wrong name'],
  ])('refuses %j and says that it is wrong: %s', (text, reason) => {
    const parse = () => parseDatabaseUrl(text, 'SOME_URL');
    expect(parse).toThrow(ConfigurationError);
    expect(parse).toThrow(/^SOME_URL is /);
    expect(parse).toThrow(reason);
    expect(parse).not.toThrow(/secret|sec%ZZret|ret@/);
  });

  test.each([
    ...['host', 'hostname', 'hostaddr', 'port', 'user', 'username', 'password', 'dbname', 'database'],
    ...['service', 'servicefile', 'passfile', 'requirepeer', 'sslcrldir', 'scram_client_key', 'oauth_issuer'],
    ...['channel_binding=require', 'gssencmode=require', 'sslcertmode=require', 'min_protocol_version=3.2'],
    ...[
      'sslmode=',
      'ssl_min_protocol_version=1.2',
      'require_auth=scram',
      'require_auth=md5,!password',
      'sslaccept=strict',
      'schema=other',
    ],
    ...[
      'replication=database',
      'client_encoding=LATIN1',
      'target_session_attrs=master',
      'connect_timeout=soon',
    ],
  ])('refuses ?%s: it would win over what is shown, or make nothing safer', (parameter) => {
    const query = parameter.includes('=') ? parameter : `${parameter}=x`;
    const parse = () => parseDatabaseUrl(`postgresql://u:secret@h/d?${query}`, 'SOME_URL');
    expect(parse).toThrow(ConfigurationError);
    expect(parse).toThrow(`whose ${query.split('=')[0]} `);
  });

  test('ignores what is harmless, keeps what is honoured, and takes the rest for settings of the server', () => {
    const ignored =
      'keepalives=1&tcp_user_timeout=9&gssencmode=prefer&channel_binding=prefer&uselibpqcompat=true&supa=x' +
      '&statement_cache_size=0&connection_limit=5&schema=public&load_balance_hosts=random&replication=false';
    const url = parseDatabaseUrl(
      `postgresql://h/d?${ignored}&ssl=true&require_auth=md5&work_mem=8MB&a.b=1+1`,
      'X',
    );
    expect(url.sslMode).toBe('require');
    expect([...url.parameters]).toEqual([
      ['require_auth', 'md5'],
      ['work_mem', '8MB'],
      // As libpq: no blank.
      ['a.b', '1+1'],
    ]);
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
  for (const text of [
    'postgresql://user:s3cret/abc@host',
    'postgresql://user:s3\ncret@host/d',
    'postgresql://me@corp:s3cret@host/d',
    'postgresql://u:a?s3cret@h/d',
    'postgresql://user:s3cret/d',
    'postgres+ssl://u:s3cret@h/d',
    "host=h password='it\\'s s3cret' user=u",
    "password='open s3cret",
    'host=h password=a\\ s3cret',
    'host=h PGPASSWORD = s3cret',
    'user:s3cret',
    'host=h password="a s3cret"',
    'postgresql://h/d?sslpassword=s3cret&client_secret=s3cret&pwd=s3cret&scram_client_key=s3cret',
  ]) {
    expect(maskPassword(text)).not.toMatch(/s3|cret(?!=)/);
    expect(() => parseDatabaseUrl(text, 'X')).not.toThrow(/s3|cret(?!=| "?is)/);
  }
  expect(maskPassword('postgresql://u@h:1/d')).toBe('postgresql://u@h:1/d');
});

test('withDatabase keeps everything but the name', () => {
  expect(withDatabase('postgresql://u:p@h:1/old?sslmode=require', 'new')).toBe(
    'postgresql://u:p@h:1/new?sslmode=require',
  );
  expect(withDatabase('postgresql://u@h', 'new')).toBe('postgresql://u@h/new');
});
