// Where a database is: which setting wins, and what an operator reads when one is wrong.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  applicationKey,
  databaseUrl,
  isProduction,
  rolePassword,
  rolePrefix,
  withLibpqVariables,
} from '../src/config.ts';
import { databaseKeys, definitionOf } from '../src/databases.ts';
import { parseDatabaseUrl } from '../src/driver/database-url.ts';
import { ConfigurationError } from '../src/errors.ts';
import {
  databaseTargets,
  foreignSources,
  selectDatabases,
  selectTarget,
  selectTargets,
} from '../src/targets.ts';
import { runCli } from './support/cli.ts';

const server = { PGHOST: 'db', PGPORT: '5544', PGUSER: 'me', PGPASSWORD: 'p w' };
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'atriz-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('databaseUrl', () => {
  test("prefers the database's own variable", () => {
    const own = 'postgresql://a@b/mextrack_db';
    expect(
      databaseUrl('mextrack', {
        ...server,
        MEXTRACK_DATABASE_URL: own,
        DATABASE_URL: 'postgresql://x@y/mextrack_db',
      }),
    ).toEqual({ url: own, origin: 'MEXTRACK_DATABASE_URL' });
  });

  test("reads DATABASE_URL for the application's own database only", () => {
    const env = { ...server, DATABASE_URL: 'postgresql://x@y/mextrack_db' };
    expect(databaseUrl('mextrack', env).origin).toBe('DATABASE_URL');
    expect(databaseUrl('pshop', env).origin).toContain('PGHOST');
    expect(databaseUrl('core', { ...server, DATABASE_URL: 'postgresql://x@y/atriz_core' }).origin).toContain(
      'PGHOST',
    );
    expect(() => databaseUrl('pshop', { ...server, DATABASE_URL: 'postgresql://x:hush@y/other' })).toThrow(
      'DATABASE_URL is "postgresql://x:****@y/other", whose database is that of no application: set APP to',
    );
  });

  test('lets APP say whose DATABASE_URL it is, whatever the name of the database', () => {
    const env = { ...server, APP: 'pshop', DATABASE_URL: 'postgresql://x@y/shop_staging' };
    expect(databaseUrl('pshop', env).origin).toBe('DATABASE_URL');
    expect(databaseUrl('mextrack', env).origin).toContain('PGHOST');
  });

  test('builds a URL from the PG* variables, encoding what must be', () => {
    expect(databaseUrl('core', server).url).toBe('postgresql://me:p%20w@db:5544/atriz_core');
    expect(databaseUrl('core', { PGHOST: 'db', PGUSER: 'me' }).url).toBe(
      'postgresql://me@db:5432/atriz_core',
    );
  });

  test('names a wrong port and what it should be', () => {
    expect(() => databaseUrl('core', { ...server, PGPORT: 'five' })).toThrow(
      'PGPORT is "five": it should be a number from 1 to 65535, such as 5432.',
    );
  });

  test('refuses the database of another key, and those of the server itself', () => {
    expect(() => databaseUrl('core', { SHARED_DATABASE_URL: 'postgresql://x@y/mextrack_db' })).toThrow(
      'which is the database of mextrack: for core it should name atriz_core',
    );
    expect(() => databaseUrl('core', { SHARED_DATABASE_URL: 'postgresql://x@y/postgres' })).toThrow(
      'a database of the server itself',
    );
  });

  test('wants a host name in PGHOST, and shows no password of what it finds instead', () => {
    const wrong = () => databaseUrl('core', { PGHOST: 'postgresql://u:hush@h/x' });
    expect(wrong).toThrow('PGHOST is "postgresql://u:****@h/x": it should be a host name alone');
    expect(() => databaseUrl('core', { SHARED_DATABASE_URL: 'u:hush@127.0.0.1' })).not.toThrow(/hush/);
  });

  test('names a wrong URL with its variable', () => {
    expect(() => databaseUrl('core', { SHARED_DATABASE_URL: 'http://u:secret@h/d' })).toThrow(
      'SHARED_DATABASE_URL is "http://u:****@h/d"',
    );
  });
});

describe('withLibpqVariables', () => {
  const url = (query = '') => parseDatabaseUrl(`postgresql://u@h/d${query}`, 'X');

  test('takes what the URL leaves out, and never where to connect', () => {
    const env = { PGSSLMODE: 'verify-ca', PGSSLROOTCERT: '/r.crt', PGREQUIREAUTH: 'md5', PGHOSTADDR: '::1' };
    const { parameters, sslMode, hosts } = withLibpqVariables(url(), env);
    expect([sslMode, parameters.get('sslrootcert'), parameters.get('require_auth')]).toEqual([
      'verify-ca',
      '/r.crt',
      'md5',
    ]);
    expect(hosts).toEqual([{ host: 'h', port: 5432 }]);
    expect(withLibpqVariables(url('?sslmode=disable&require_auth=none'), env)).toMatchObject({
      sslMode: 'disable',
      parameters: new Map([
        ['require_auth', 'none'],
        ['sslrootcert', '/r.crt'],
      ]),
    });
  });

  test('what asks something of TLS asks for TLS, unless PGSSLMODE says how much', () => {
    expect(withLibpqVariables(url('?sslcert=/c.crt')).sslMode).toBe('require');
    expect(withLibpqVariables(url('?sslcrl=/r.crl')).sslMode).toBe('verify-full');
    const env = { PGSSLMODE: 'verify-ca', PGSSLCERT: '/c.crt' };
    expect(withLibpqVariables(url('?sslcert=/d.crt'), env).sslMode).toBe('verify-ca');
    expect(withLibpqVariables(url(), { PGSSLCERT: '/c.crt' }).sslMode).toBeUndefined();
  });

  test('a root certificate alone demands no TLS, and what cannot be kept is refused', () => {
    expect(withLibpqVariables(url(), { PGSSLROOTCERT: '/r.crt' }).parameters.size).toBe(0);
    expect(() => withLibpqVariables(url(), { PGCHANNELBINDING: 'require' })).toThrow(
      'PGCHANNELBINDING is "require": channel_binding "require" is not possible',
    );
  });
});

describe('the command line', () => {
  test('names all three ways when nothing is set, exit 2', async () => {
    const { code, stderr } = await runCli(['status', 'core'], {}, { cwd: folder });
    expect(code).toBe(2);
    expect(stderr).toMatch(/SHARED_DATABASE_URL.*PGHOST.*npm run dev/);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test('status shows what has a setting, and names the others; asked for one of them, it says how to set it', async () => {
    const environment = { PSHOP_DATABASE_URL: 'postgresql://me:hush@127.0.0.1:1/pshop_db' };
    const all = await runCli(['status'], environment, { cwd: folder });
    expect(all).toMatchObject({ code: 1, stderr: '' });
    expect(all.stdout).toContain('pshop_db at 127.0.0.1:1: no server answers there');
    const others = databaseKeys.filter((key) => key !== 'pshop').join(', ');
    expect(all.stdout).toContain(`No setting says where ${others} are.`);
    expect((await runCli(['status', 'core'], environment, { cwd: folder })).code).toBe(2);
  });

  test('reads .env of the current folder; a set variable wins over it', async () => {
    writeFileSync(join(folder, '.env'), 'SHARED_DATABASE_URL=nonsense-from-file\n');
    const fromFile = await runCli(['status', 'core'], {}, { cwd: folder });
    expect(fromFile.stderr).toContain('SHARED_DATABASE_URL is "nonsense-from-file"');
    const fromEnv = await runCli(['status', 'core'], { SHARED_DATABASE_URL: 'from-env' }, { cwd: folder });
    expect(fromEnv.stderr).toContain('SHARED_DATABASE_URL is "from-env"');
  });

  test('ignores the file of an embedded cluster whose process is gone', async () => {
    mkdirSync(join(folder, '.atriz'));
    const servers = { plain: 'postgresql://a@127.0.0.1:1', timescaledb: 'postgresql://a@127.0.0.1:2' };
    const cluster = (pid: number) =>
      writeFileSync(join(folder, '.atriz', 'cluster.json'), JSON.stringify({ pid, servers }));
    writeFileSync(join(folder, '.atriz', 'cluster.json'), '{"pid": 0');
    expect(await runCli(['status', 'core'], {}, { cwd: folder })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/cluster\.json does not say where .*: delete it, and start the cluster/),
    });
    cluster(2 ** 30);
    expect((await runCli(['status', 'core'], {}, { cwd: folder })).code).toBe(2);
    cluster(process.pid);
    const { stdout } = await runCli(['status', 'core', 'tracking', '--json'], {}, { cwd: folder });
    expect(JSON.parse(stdout)).toMatchObject([
      { url: 'postgresql://a@127.0.0.1:1/atriz_core', isReachable: false },
      { url: 'postgresql://a@127.0.0.1:2/atriz_tracking', isReachable: false },
    ]);
  });

  test('prints a sentence and exit 2 for what it does not know', async () => {
    const unknownDatabase = await runCli(['status', 'nope'], {});
    expect(unknownDatabase).toMatchObject({ code: 2 });
    expect(unknownDatabase.stderr).toContain('There is no database "nope": the databases are core, tracking');
    expect(await runCli(['frobnicate'], {})).toMatchObject({ code: 2 });
    expect(await runCli(['status', '--frobnicate'], {})).toMatchObject({ code: 2 });
    expect(await runCli(['--help'], {})).toMatchObject({ code: 0 });
  });
});

test.each(['production', 'Production', 'PROD'])('NODE_ENV=%s is production', (value) => {
  expect(isProduction({ NODE_ENV: value })).toBe(true);
  expect(isProduction({ NODE_ENV: 'development' })).toBe(false);
});

test('applicationKey lists the applications', () => {
  expect(applicationKey({ APP: 'pshop' })).toBe('pshop');
  const applications = databaseKeys.filter((key) => definitionOf(key).application).join(', ');
  expect(applications).toContain('atriz, mextrack, ');
  expect(() => applicationKey({})).toThrow(`APP is not set: it should be ${applications}`);
  expect(() => applicationKey({ APP: 'core' })).toThrow('APP is "core"');
});

describe('tracking databases of applications', () => {
  const url = (name: string, host = 'h') => `postgresql://a@${host}/${name}`;
  const shared = { TRACKING_DATABASE_URL: url('atriz_tracking') };
  const mextrack = { MEXTRACK_TRACKING_DATABASE_URL: url('track_m') };
  const pshop = { PSHOP_TRACKING_DATABASE_URL: url('track_p') };
  const targets = (env: Record<string, string>) => databaseTargets(env).filter((key) => /tracking/.test(key));

  test('one variable, or none, means one database', () => {
    for (const env of [{}, server, shared, { MEXTRACK_TRACKING_DATABASE_URL: '' }]) {
      expect(databaseTargets(env)).toEqual(databaseKeys);
      expect(selectTargets(['tracking', 'core'], env)).toEqual(['core', 'tracking']);
      expect(foreignSources('tracking', env)).toEqual([]);
    }
  });

  test('an application with a variable has its own; tracking stays for the others, or where it is named', () => {
    expect(targets({ ...server, ...mextrack })).toEqual(['tracking', 'tracking:mextrack']);
    expect(targets({ ...server, ...mextrack, ...pshop })).toEqual(['tracking:mextrack', 'tracking:pshop']);
    expect(targets({ ...shared, ...mextrack, ...pshop })).toEqual([
      'tracking',
      'tracking:mextrack',
      'tracking:pshop',
    ]);
    const env = { ...shared, ...mextrack };
    expect(databaseUrl('tracking:mextrack', env).origin).toBe('MEXTRACK_TRACKING_DATABASE_URL');
    expect(databaseUrl('tracking:pshop', env).origin).toBe('TRACKING_DATABASE_URL');
    expect(foreignSources('tracking', env)).toEqual(['mextrack']);
    expect(foreignSources('tracking:mextrack', env)).toEqual(['pshop']);
    expect(foreignSources('core', env)).toEqual([]);
  });

  test('a command line names all of tracking, the one of an application, or the shared one', () => {
    const env = { ...shared, ...mextrack };
    expect(selectTargets(['tracking'], env)).toEqual(['tracking', 'tracking:mextrack']);
    expect(selectTargets(['tracking:mextrack'], env)).toEqual(['tracking:mextrack']);
    expect(selectTargets(['tracking:default'], env)).toEqual(['tracking']);
    expect(selectTarget('tracking:default', env)).toBe('tracking');
    expect(selectTarget('tracking', shared)).toBe('tracking');
    expect(() => selectTarget('tracking', env)).toThrow('name one of tracking:default, tracking:mextrack.');
    expect(() => selectTargets(['tracking:pshop'], env)).toThrow('PSHOP_TRACKING_DATABASE_URL is not set');
  });

  test('two URLs of one database, a variable of nobody and a database of another key are refused', () => {
    const same = { ...mextrack, PSHOP_TRACKING_DATABASE_URL: `${url('track_m')}?sslmode=require` };
    expect(() => databaseTargets(same)).toThrow(
      'PSHOP_TRACKING_DATABASE_URL leads to the same database as MEXTRACK_TRACKING_DATABASE_URL',
    );
    expect(() => databaseTargets({ ...mextrack, TRACKING_DATABASE_URL: url('track_m') })).toThrow(
      'the same database as TRACKING_DATABASE_URL',
    );
    // The same name on another server is another database.
    expect(targets({ ...mextrack, PSHOP_TRACKING_DATABASE_URL: url('track_m', 'other') })).toHaveLength(2);
    expect(() => databaseTargets({ FLEET_TRACKING_DATABASE_URL: url('x') })).toThrow(
      'FLEET_TRACKING_DATABASE_URL is set, and no application of that name records locations',
    );
    expect(() =>
      databaseUrl('tracking:mextrack', { MEXTRACK_TRACKING_DATABASE_URL: url('pshop_db') }),
    ).toThrow('which is the database of pshop');
  });
});

test('selectDatabases keeps the order of the registry', () => {
  expect(selectDatabases([])).toEqual(databaseKeys);
  expect(selectDatabases(['pshop', 'core'])).toEqual(['core', 'pshop']);
});

test('roles may have a prefix that needs no quotes, and their passwords stand in a variable without it', () => {
  expect(rolePrefix({})).toBe('');
  expect(rolePrefix({ ATRIZ_ROLE_PREFIX: 'staging_' })).toBe('staging_');
  for (const wrong of ['Staging_', '1_', 'a-b', 'a"b', 'x'.repeat(41)]) {
    expect(() => rolePrefix({ ATRIZ_ROLE_PREFIX: wrong })).toThrow(ConfigurationError);
  }
  const env = { ATRIZ_ROLE_PREFIX: 'staging_', MEXTRACK_APP_PASSWORD: 'it works' };
  expect(rolePassword('staging_pshop_app', env)).toBeUndefined();
  expect(() => rolePassword('staging_mextrack_app', env)).toThrow('MEXTRACK_APP_PASSWORD should hold');
  expect(rolePassword('staging_mextrack_app', { ...env, MEXTRACK_APP_PASSWORD: "a'b\\c" })).toBe("a'b\\c");
});
