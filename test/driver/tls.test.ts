// TLS means what libpq means by it: each case also goes through psql, where that is there.
import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createDatabasePool, type DatabasePoolOptions, type Pool } from '../../src/index.ts';
import { Authority } from '../support/certificates.ts';
import { describeWith } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { type OwnServer, startOwnServer } from '../support/own-server.ts';

const run = promisify(execFile);

describeWith(['openssl'], 'a server with TLS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-tls-'));
  let server: OwnServer;
  let admin: Pool;
  let authority: Authority;
  let other: Authority;

  beforeAll(async () => {
    authority = new Authority(folder);
    other = new Authority(mkdtempSync(join(folder, 'other-')));
    server = await startOwnServer();
    const hba = join(server.folder, 'plain', 'pg_hba.conf');
    writeFileSync(hba, `hostssl all with_certificate all cert\n${readFileSync(hba, 'utf8')}`);
    copyFileSync(authority.root, join(server.folder, 'plain', 'root.crt'));
    admin = createDatabasePool({ connectionString: server.url, ssl: false, max: 1 });
    await admin.query("ALTER SYSTEM SET ssl = 'on'");
    await admin.query("ALTER SYSTEM SET ssl_ca_file = 'root.crt'");
    await admin.query('CREATE ROLE with_certificate LOGIN');
    await use({ alternativeName: 'DNS:localhost' });
  });
  afterAll(async () => {
    await admin.close();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const url = (host: string, query: string, login = 'postgres:postgres') =>
    `postgresql://${login}@${host}:${server.port}/postgres?${query}`;
  const verifying = (host: string, mode = 'verify-full', root = authority.root) =>
    url(host, `sslmode=${mode}&sslrootcert=${encodeURIComponent(root)}`);

  /** The server shows this certificate to every connection that begins after it. */
  async function use(signed: Parameters<Authority['sign']>[1]): Promise<string> {
    const { certificate, key } = authority.sign('server', signed);
    const data = join(server.folder, 'plain');
    const { uid, gid } = statSync(data);
    for (const [from, to] of [
      [certificate, 'server.crt'],
      [key, 'server.key'],
    ] as const) {
      copyFileSync(from, join(data, to));
      chmodSync(join(data, to), 0o600);
      chownSync(join(data, to), uid, gid);
    }
    const loadedAt = async () =>
      (await admin.query<{ at: string }>('SELECT pg_conf_load_time()::text AS at')).rows[0]?.at;
    const before = await loadedAt();
    await admin.query('SELECT pg_reload_conf()');
    // The server loads before it tells its sessions to, and takes no connection in between.
    while ((await loadedAt()) === before) await sleep(5);
    return certificate;
  }

  async function ask(connectionString: string, text = 'SELECT 1', options: DatabasePoolOptions = {}) {
    await using db = createDatabasePool({ connectionString, max: 1, ...options });
    return (await db.query(text)).rows[0];
  }

  /** Whether psql connects; undefined without psql. */
  async function psqlAccepts(connectionString: string): Promise<boolean | undefined> {
    if (!inject('server').capabilities.includes('psql')) return undefined;
    const environment = { ...process.env, HOME: folder };
    return run('psql', [connectionString, '-Xqc', 'SELECT 1'], { env: environment }).then(
      () => true,
      () => false,
    );
  }

  async function expectAccepted(connectionString: string): Promise<void> {
    expect(await ask(connectionString, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')).toEqual({
      ssl: true,
    });
    expect(await psqlAccepts(connectionString)).not.toBe(false);
  }

  async function expectRefused(connectionString: string, code: string | RegExp): Promise<void> {
    expect(await failure(ask(connectionString))).toMatchObject({
      name: 'ConnectionError',
      code: expect.stringMatching(code),
    });
    expect(await psqlAccepts(connectionString)).not.toBe(true);
  }

  test('verify-full compares the certificate with the host of the URL, whatever it is', async () => {
    await expectAccepted(verifying('localhost'));
    await expectRefused(verifying('127.0.0.1'), 'ERR_TLS_CERT_ALTNAME_INVALID');
    await expectAccepted(verifying('127.0.0.1', 'verify-ca'));
  });

  test('an IP address is found in the certificate as an address, a name or the common name, as for libpq', async () => {
    await use({ alternativeName: 'IP:127.0.0.1' });
    await expectAccepted(verifying('127.0.0.1'));
    await expectRefused(verifying('localhost'), 'ERR_TLS_CERT_ALTNAME_INVALID');
    await use({ alternativeName: 'IP:127.0.0.2', commonName: '127.0.0.1' });
    await expectRefused(verifying('127.0.0.1'), 'ERR_TLS_CERT_ALTNAME_INVALID');
    await use({ commonName: '127.0.0.1' });
    await expectAccepted(verifying('127.0.0.1'));
    await use({ alternativeName: 'DNS:127.0.0.1' });
    await expectAccepted(verifying('127.0.0.1'));
  });

  test('of several hosts, each is compared with its own name', async () => {
    await use({ alternativeName: 'DNS:localhost' });
    const hosts = (list: string) => verifying('HOST').replace(`HOST:${server.port}`, list);
    // psql gives up at the first host that it reaches; here the first that can be used is taken.
    expect(await ask(hosts(`127.0.0.1:${server.port},localhost:${server.port}`))).toBeDefined();
    await expectRefused(hosts(`127.0.0.1:${server.port},127.0.0.1:${server.port}`), /ERR_TLS_/);
  });

  test('an authority that did not sign it, or that has revoked it', async () => {
    const certificate = await use({ alternativeName: 'DNS:localhost' });
    await expectRefused(verifying('localhost', 'verify-full', other.root), /SELF_SIGNED|UNABLE_TO/);
    await expectRefused(verifying('localhost', 'require', other.root), /SELF_SIGNED|UNABLE_TO/);
    await expectAccepted(url('localhost', 'sslmode=require'));
    await expectAccepted(url('localhost', 'ssl=true'));
    await expectRefused(
      `${verifying('localhost')}&sslcrl=${encodeURIComponent(authority.revoke(certificate))}`,
      'CERT_REVOKED',
    );
  });

  test('versions of TLS: the server offers none that is new enough', async () => {
    await admin.query("ALTER SYSTEM SET ssl_max_protocol_version = 'TLSv1.2'");
    await use({});
    await expectAccepted(url('localhost', 'sslmode=require'));
    await expectRefused(url('localhost', 'sslmode=require&ssl_min_protocol_version=TLSv1.3'), /^ERR_SSL/);
    await admin.query('ALTER SYSTEM RESET ssl_max_protocol_version');
    await use({});
  });

  test('a certificate of the client, its key locked by sslpassword', async () => {
    const client = authority.sign('client', { commonName: 'with_certificate', passphrase: 'hush-hush' });
    chmodSync(client.key, 0o600);
    const files = `sslcert=${encodeURIComponent(client.certificate)}&sslkey=${encodeURIComponent(client.key)}`;
    const login = (query: string) =>
      url('localhost', `sslmode=require&${files}&${query}`, 'with_certificate');
    await expectAccepted(login('sslpassword=hush-hush'));
    const wrong = await failure(ask(login('sslpassword=wrong-word')));
    expect(wrong).toMatchObject({ name: 'ConfigurationError' });
    expect(String(wrong)).not.toContain('wrong-word');
    await expectRefused(login('sslpassword=hush-hush&sslcertmode=disable'), '28000');
  });

  test('files that are renewed are read by the next connection, one that is missing breaks only that', async () => {
    await use({ alternativeName: 'DNS:localhost' });
    const root = join(folder, 'renewed.crt');
    copyFileSync(authority.root, root);
    await using db = createDatabasePool({
      connectionString: verifying('localhost', 'verify-full', root),
      max: 3,
    });
    const hold = () => db.query('SELECT pg_sleep(0.2)');
    await hold();
    rmSync(root);
    const [, missing] = await Promise.allSettled([hold(), hold()]);
    expect(missing).toMatchObject({ reason: { name: 'ConfigurationError' } });
    copyFileSync(other.root, root);
    const [, foreign] = await Promise.allSettled([hold(), hold()]);
    expect(foreign).toMatchObject({ reason: { name: 'ConnectionError' } });
    copyFileSync(authority.root, root);
    await Promise.all([hold(), hold()]);
  });

  test('PGSSLMODE and its companions count for a URL that says nothing', async () => {
    await use({ alternativeName: 'DNS:localhost' });
    const usesTls = async (query: string) =>
      (await ask(url('localhost', query), 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'))?.ssl;
    expect(await usesTls('')).toBe(false);
    const set = (more: NodeJS.ProcessEnv) => Object.assign(process.env, more);
    try {
      set({ PGSSLMODE: 'require' });
      expect(await usesTls('')).toBe(true);
      expect(await usesTls('sslmode=disable')).toBe(false);
      set({ PGSSLMODE: 'verify-full', PGSSLROOTCERT: other.root });
      await expectRefused(url('localhost', ''), /SELF_SIGNED|UNABLE_TO/);
      await expectAccepted(url('localhost', `sslrootcert=${encodeURIComponent(authority.root)}`));
      set({ PGSSLMODE: 'yes' });
      expect(await failure(usesTls(''))).toMatchObject({
        name: 'ConfigurationError',
        message: expect.stringContaining('PGSSLMODE is "yes"'),
      });
    } finally {
      delete process.env.PGSSLMODE;
      delete process.env.PGSSLROOTCERT;
    }
  });

  test('a query is cancelled, and require_auth is kept, over TLS as without', async () => {
    for (const query of ['sslmode=disable', 'sslmode=require']) {
      await using db = createDatabasePool({ connectionString: url('localhost', query), max: 2 });
      const slow = db.sql`SELECT pg_sleep(60)`.execute();
      // A server ignores a request that comes before it has begun with the query.
      const active = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'";
      await expect.poll(async () => (await db.query(active)).rowCount).toBe(1);
      slow.cancel();
      expect(await failure(slow)).toMatchObject({ code: '57014' });
      expect(await ask(url('localhost', `${query}&require_auth=scram-sha-256`))).toBeDefined();
      await expectRefused(url('localhost', `${query}&require_auth=md5,password`), 'REQUIRE_AUTH');
      await expectRefused(url('localhost', `${query}&require_auth=!scram-sha-256`), 'REQUIRE_AUTH');
    }
  });
});

describe('a server that is not what it should be', () => {
  const received: Buffer[] = [];
  const sockets = new Set<Socket>();
  let answer: (socket: Socket, data: Buffer) => void = () => undefined;
  let rogue: Server;
  let port: number;

  beforeAll(async () => {
    rogue = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('data', (data) => {
        received.push(data);
        answer(socket, data);
      });
    });
    await new Promise<void>((resolve) => rogue.listen(0, '127.0.0.1', resolve));
    port = (rogue.address() as { port: number }).port;
  });
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    rogue.close();
  });

  async function meet(query: string): Promise<Error> {
    received.length = 0;
    const connectionString = `postgresql://me:s3cr3t@127.0.0.1:${port}/x?${query}`;
    await using db = createDatabasePool({ connectionString, connectTimeoutMs: 500 });
    return (await failure(db.query('SELECT 1'))) as Error;
  }

  const authentication = (type: number, more = '') => {
    const body = Buffer.concat([
      Buffer.from([0x52, 0, 0, 0, 8 + more.length, 0, 0, 0, type]),
      Buffer.from(more),
    ]);
    return (socket: Socket) => socket.write(body);
  };

  test.each([
    ['password', 3, 'asks for password'],
    ['md5', 5, 'asks for md5'],
    ['nothing', 0, 'asks for nothing'],
  ])('require_auth=scram-sha-256 gives no password to one that asks for %s', async (_, type, reason) => {
    answer = authentication(type, type === 5 ? 'salt' : '');
    const error = await meet('require_auth=scram-sha-256');
    expect(error).toMatchObject({ name: 'ConnectionError', code: 'REQUIRE_AUTH' });
    expect(error.message).toContain(reason);
    expect(Buffer.concat(received).toString('latin1')).not.toMatch(/s3cr3t|md5/);
  });

  test('nor is one let in that asks for SCRAM and does not prove itself', async () => {
    answer = (socket) => {
      authentication(10, 'SCRAM-SHA-256\0\0')(socket);
      authentication(0)(socket);
    };
    expect(await meet('require_auth=scram-sha-256')).toMatchObject({ code: 'REQUIRE_AUTH' });
  });

  test('without TLS it gets no login where sslmode demands it, nor if it slips in bytes', async () => {
    answer = (socket) => socket.write('N');
    expect(await meet('sslmode=require')).toMatchObject({ name: 'ConnectionError', code: 'TLS_NOT_OFFERED' });
    answer = (socket) => socket.write('SR');
    expect(await meet('sslmode=require')).toMatchObject({ name: 'ConnectionError' });
    answer = (socket) => socket.end();
    expect(await meet('sslmode=require')).toMatchObject({ name: 'ConnectionError', code: 'ECONNRESET' });
    answer = () => undefined;
    expect(await meet('sslmode=prefer')).toMatchObject({ code: 'CONNECT_TIMEOUT' });
    expect(Buffer.concat(received).toString('latin1')).not.toMatch(/s3cr3t|me\0/);
  });
});
