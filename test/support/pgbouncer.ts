// PgBouncer in transaction mode, for whoever needs one in front of a server.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { serverUser } from '../../scripts/embedded/server-user.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { freePort } from './free-port.ts';

export interface PgBouncer {
  /** Of one of the server's databases, with pgbouncer=true. */
  url(database: string): string;
  stop(): Promise<void>;
}

/** Debian installs it where only root's PATH leads. */
const environment = { ...process.env, PATH: [process.env.PATH, '/usr/sbin'].join(delimiter) };

export function hasPgBouncer(): boolean {
  try {
    execFileSync('pgbouncer', ['--version'], { stdio: 'ignore', env: environment });
    return true;
  } catch {
    return false;
  }
}

/** Fewer server connections than the tests have clients: sessions are shared from the first moment. */
export async function startPgBouncer(server: string, poolSize = 5, setting = ''): Promise<PgBouncer> {
  const { hosts, user = 'postgres', password = '' } = parseDatabaseUrl(server, 'server');
  const [host] = hosts;
  const folder = mkdtempSync(join(tmpdir(), 'atriz-pgbouncer-'));
  const port = await freePort();
  const settings = join(folder, 'pgbouncer.ini');
  writeFileSync(
    settings,
    `[databases]
* = host=${host?.host} port=${host?.port} user=${user}${password && ` password=${password}`}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 500
${setting}
`,
  );
  // It refuses to run as root.
  const owner = await serverUser(folder);
  chmodSync(settings, 0o600);
  if (owner) for (const path of [folder, settings]) chownSync(path, owner.uid, owner.gid);
  const child = spawn('pgbouncer', [settings], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: environment,
    ...(owner && { uid: owner.uid, gid: owner.gid }),
  });
  await started(child);
  return {
    url: (database) => `postgresql://${user}@127.0.0.1:${port}/${database}?pgbouncer=true`,
    stop: async () => {
      const closed = once(child, 'close');
      child.kill('SIGTERM');
      await closed;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function started(child: ChildProcess): Promise<void> {
  let log = '';
  return new Promise((resolve, reject) => {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      if (log.includes('process up')) resolve();
    });
    child.once('error', reject);
    child.once('close', () => reject(new Error(`PgBouncer ended: ${log}`)));
  });
}
