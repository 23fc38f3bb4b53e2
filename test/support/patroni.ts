// Three PostgreSQL servers that Patroni keeps, with one etcd, on loopback.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { installedPrograms } from '../../scripts/backup/client/versions.ts';
import { commandLine, startMark, waitForExit } from '../../scripts/embedded/processes.ts';
import { makeServerFolder, type ServerUser, serverUser } from '../../scripts/embedded/server-user.ts';
import { makeDataFolder } from './data-folder.ts';
import { freePort } from './free-port.ts';

/** What is killed with SIGKILL: the postmaster, Patroni, or Patroni and every process of its server. */
export type Victim = 'postgres' | 'patroni' | 'both';

interface Programs {
  readonly folder: string;
  readonly hasTimescale: boolean;
}

interface Member {
  readonly name: string;
  readonly role: string;
  readonly state: string;
  readonly timeline?: number;
}

const environment = { ...process.env, PATH: [process.env.PATH, '/usr/sbin'].join(delimiter) };

/** The newest installed server, or that of PG_BIN. */
async function serverPrograms(): Promise<Programs | undefined> {
  const [newest] = (await installedPrograms())
    .filter(({ folder }) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'pg_rewind')))
    .toSorted((one, other) => other.major - one.major);
  if (!newest) return undefined;
  const { folder } = newest;
  let libraries = '';
  try {
    libraries = execFileSync(join(folder, 'pg_config'), ['--pkglibdir'], { encoding: 'utf8' }).trim();
  } catch {
    // Debian's server packages come without it.
  }
  return { folder, hasTimescale: existsSync(join(libraries, 'timescaledb.so')) };
}

/** Why no cluster can be started here; undefined where it can. */
export async function patroniIsMissing(): Promise<string | undefined> {
  for (const program of ['patroni', 'etcd']) {
    try {
      execFileSync(program, ['--version'], { stdio: 'ignore', env: environment });
    } catch {
      return `${program} is not installed`;
    }
  }
  return (await serverPrograms()) ? undefined : 'no PostgreSQL with initdb and pg_rewind is installed';
}

/**
 * Before 3.0.3, and with version 3 of etcd's interface, a leader that was stopped for longer than ttl takes its lock back
 * from the new one, and what that one has acknowledged is lost (patroni/patroni#2689). Debian 12 has 3.0.2.
 */
function keepsLock(): boolean {
  const version = execFileSync('patroni', ['--version'], { encoding: 'utf8', env: environment });
  const [major = 0, minor = 0, patch = 0] = version.match(/\d+/g)?.map(Number) ?? [];
  return major * 10_000 + minor * 100 + patch >= 30_003;
}

/** A process that a test started, and what it wrote. */
class Daemon {
  readonly #child: ChildProcess;

  constructor(program: string, args: readonly string[], log: string, user: ServerUser | undefined) {
    this.#child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...environment, LC_ALL: 'C', TZ: 'UTC' },
      cwd: '/',
      ...(user && { uid: user.uid, gid: user.gid }),
    });
    const file = createWriteStream(log, { flags: 'a' });
    this.#child.stdout?.pipe(file, { end: false });
    this.#child.stderr?.pipe(file, { end: false });
    this.#child.once('error', (error) => file.end(`${error}\n`));
    this.#child.once('exit', () => file.end());
  }

  get pid(): number | undefined {
    const { exitCode, signalCode, pid } = this.#child;
    return exitCode === null && signalCode === null ? pid : undefined;
  }

  async kill(): Promise<void> {
    const { pid } = this;
    if (pid === undefined) return;
    this.#child.kill('SIGKILL');
    await waitForExit(pid, 15_000);
  }
}

export class PatroniNode {
  readonly name: string;
  readonly port: number;
  readonly restPort: number;
  readonly folder: string;
  readonly #user: ServerUser | undefined;
  #daemon: Daemon | undefined;

  constructor(
    name: string,
    ports: { port: number; restPort: number },
    folder: string,
    user: ServerUser | undefined,
  ) {
    this.name = name;
    this.port = ports.port;
    this.restPort = ports.restPort;
    this.folder = folder;
    this.#user = user;
  }

  /** Starts Patroni, unless it runs. */
  start(): void {
    if (this.#daemon?.pid !== undefined) return;
    const log = join(this.folder, 'patroni.log');
    this.#daemon = new Daemon('patroni', [join(this.folder, 'patroni.json')], log, this.#user);
  }

  async kill(victim: Victim): Promise<void> {
    // Patroni first: it would start its server again.
    if (victim !== 'postgres') await this.#daemon?.kill();
    if (victim === 'patroni') return;
    const pids = victim === 'both' ? await this.#serverPids() : (await this.#serverPids()).slice(0, 1);
    for (const pid of pids) signal(pid, 'SIGKILL');
  }

  /** Stops Patroni and every process of its server: the kernel goes on to accept connections, and nobody answers. */
  async freeze(): Promise<void> {
    const patroni = this.#daemon?.pid;
    if (patroni !== undefined) signal(patroni, 'SIGSTOP');
    const [postmaster] = await this.#serverPids();
    // The postmaster first, so that no process is added.
    if (postmaster !== undefined) signal(postmaster, 'SIGSTOP');
    for (const pid of await this.#serverPids()) signal(pid, 'SIGSTOP');
  }

  async thaw(): Promise<void> {
    const patroni = this.#daemon?.pid;
    for (const pid of await this.#serverPids()) signal(pid, 'SIGCONT');
    if (patroni !== undefined) signal(patroni, 'SIGCONT');
  }

  /** Whether Patroni says that this server leads and takes writes. */
  async isLeader(): Promise<boolean> {
    try {
      return (
        await fetch(`http://127.0.0.1:${this.restPort}/primary`, { signal: AbortSignal.timeout(1_000) })
      ).ok;
    } catch {
      return false;
    }
  }

  async remove(): Promise<void> {
    await this.thaw();
    await this.#daemon?.kill();
    const [postmaster] = await this.#serverPids();
    if (postmaster === undefined) return;
    signal(postmaster, 'SIGQUIT');
    if (!(await waitForExit(postmaster, 30_000))) signal(postmaster, 'SIGKILL');
  }

  /** The postmaster and its children; empty where the server does not run. */
  async #serverPids(): Promise<number[]> {
    try {
      const data = join(this.folder, 'data');
      const postmaster = Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]);
      if (!(await commandLine(postmaster)).includes(data) || (await startMark(postmaster)) === 'ended')
        return [];
      const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8');
      return [postmaster, ...children.split(' ').filter(Boolean).map(Number)];
    } catch {
      // It has no file, or has just ended.
      return [];
    }
  }
}

export class PatroniCluster {
  readonly nodes: readonly PatroniNode[];
  readonly hasTimescale: boolean;
  readonly #folder: string;
  readonly #etcd: Daemon;

  /** @internal Use `startPatroniCluster`. */
  constructor(nodes: readonly PatroniNode[], hasTimescale: boolean, folder: string, etcd: Daemon) {
    this.nodes = nodes;
    this.hasTimescale = hasTimescale;
    this.#folder = folder;
    this.#etcd = etcd;
  }

  /** All hosts in one URL. */
  url(database: string, target: string): string {
    const hosts = this.nodes.map(({ port }) => `127.0.0.1:${port}`).join(',');
    return `postgresql://postgres:postgres@${hosts}/${database}?target_session_attrs=${target}`;
  }

  /** Of one host. */
  urlOf({ port }: PatroniNode, database: string): string {
    return `postgresql://postgres:postgres@127.0.0.1:${port}/${database}`;
  }

  /** Waits until one node leads, all others follow it, and one of them is synchronous. @returns the leader. */
  async whole(): Promise<PatroniNode> {
    for (;;) {
      const members = (await this.#get<{ members: Member[] }>('/cluster'))?.members ?? [];
      const leader = members.find(({ role }) => role === 'leader');
      const isWhole =
        members.length === this.nodes.length &&
        members.every(({ state, timeline }) => isRunning(state) && timeline === leader?.timeline) &&
        members.some(({ role }) => role === 'sync_standby');
      const node = this.nodes.find(({ name }) => name === leader?.name);
      if (isWhole && node && (await this.#isSynchronous(node))) return node;
      await sleep(200);
    }
  }

  /** As `patronictl switchover`. */
  async switchover(leader: PatroniNode): Promise<void> {
    const answer = await fetch(`http://127.0.0.1:${leader.restPort}/switchover`, {
      method: 'POST',
      body: JSON.stringify({ leader: leader.name }),
    });
    if (!answer.ok) throw new Error(`Patroni refuses: ${answer.status} ${await answer.text()}`);
  }

  async stop(): Promise<void> {
    for (const node of this.nodes) await node.remove();
    await this.#etcd.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** What the members say may be older than what the leader does. */
  async #isSynchronous({ restPort }: PatroniNode): Promise<boolean> {
    const status = await ask<{ replication?: { sync_state: string }[] }>(restPort, '/patroni');
    return status?.replication?.some(({ sync_state }) => sync_state === 'sync') ?? false;
  }

  /** The first answer of a node. */
  async #get<Answer>(path: string): Promise<Answer | undefined> {
    for (const { restPort } of this.nodes) {
      const answer = await ask<Answer>(restPort, path);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }
}

async function ask<Answer>(port: number, path: string): Promise<Answer | undefined> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(5_000) });
    return (await answer.json()) as Answer;
  } catch {
    return undefined;
  }
}

/** Patroni 3.1 and newer say of a replica that it is streaming. */
const isRunning = (state: string) => state === 'running' || state === 'streaming';

export async function startPatroniCluster(): Promise<PatroniCluster> {
  const programs = await serverPrograms();
  if (!programs) throw new Error('No PostgreSQL with initdb and pg_rewind is installed.');
  const folder = makeDataFolder('atriz-patroni-');
  const user = await serverUser(folder);
  await makeServerFolder(folder, join(folder, 'etcd'), user);
  const [etcdPort, peerPort] = [await freePort(), await freePort()];
  const etcd = new Daemon(
    'etcd',
    [
      ...(keepsLock() ? [] : ['--enable-v2']),
      ...['--name', 'etcd', '--data-dir', join(folder, 'etcd', 'data')],
      ...['--listen-client-urls', `http://127.0.0.1:${etcdPort}`],
      ...['--advertise-client-urls', `http://127.0.0.1:${etcdPort}`],
      ...['--listen-peer-urls', `http://127.0.0.1:${peerPort}`],
      ...['--initial-advertise-peer-urls', `http://127.0.0.1:${peerPort}`],
      ...['--initial-cluster', `etcd=http://127.0.0.1:${peerPort}`],
    ],
    join(folder, 'etcd.log'),
    user,
  );
  const nodes: PatroniNode[] = [];
  for (const name of ['node1', 'node2', 'node3']) {
    const ports = { port: await freePort(), restPort: await freePort() };
    const node = new PatroniNode(name, ports, join(folder, name), user);
    await makeServerFolder(folder, node.folder, user);
    // Patroni reads YAML, of which JSON is a part.
    writeFileSync(
      join(node.folder, 'patroni.json'),
      JSON.stringify(configurationOf(node, etcdPort, programs), null, 2),
    );
    nodes.push(node);
  }
  const cluster = new PatroniCluster(nodes, programs.hasTimescale, folder, etcd);
  for (const node of nodes) node.start();
  await cluster.whole();
  return cluster;
}

/** As docs/operating.md shows it, with shorter times. */
function configurationOf(node: PatroniNode, etcdPort: number, { folder, hasTimescale }: Programs) {
  const user = (username: string) => ({ username, password: 'postgres' });
  return {
    scope: 'atriz',
    name: node.name,
    restapi: { listen: `127.0.0.1:${node.restPort}`, connect_address: `127.0.0.1:${node.restPort}` },
    [keepsLock() ? 'etcd3' : 'etcd']: { host: `127.0.0.1:${etcdPort}` },
    bootstrap: {
      dcs: {
        // The shortest that Patroni advises. A busy machine may answer late: ttl ≥ loop_wait + 2 × retry_timeout.
        ttl: 20,
        loop_wait: 2,
        retry_timeout: 8,
        synchronous_mode: true,
        postgresql: {
          use_pg_rewind: true,
          parameters: {
            max_connections: 100,
            max_worker_processes: 32,
            shared_buffers: '32MB',
            timezone: 'UTC',
            // A standby asks again soon whether its primary is back.
            wal_retrieve_retry_interval: '500ms',
            ...(hasTimescale && {
              shared_preload_libraries: 'timescaledb',
              'timescaledb.telemetry_level': 'off',
            }),
          },
        },
      },
      initdb: [{ encoding: 'UTF8' }, { locale: 'C' }, 'data-checksums'],
    },
    postgresql: {
      listen: `127.0.0.1:${node.port}`,
      connect_address: `127.0.0.1:${node.port}`,
      data_dir: join(node.folder, 'data'),
      bin_dir: folder,
      pgpass: join(node.folder, 'pgpass'),
      authentication: {
        superuser: user('postgres'),
        replication: user('replicator'),
        rewind: user('rewinder'),
      },
      parameters: { unix_socket_directories: node.folder },
      pg_hba: [
        'host all all 127.0.0.1/32 scram-sha-256',
        'host replication replicator 127.0.0.1/32 scram-sha-256',
      ],
    },
  };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // It has ended.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
