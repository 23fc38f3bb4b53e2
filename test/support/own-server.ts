// PostgreSQL servers of a test's own, which it may crash, stop and promote: on whatever server the suite runs.
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type PlainServer,
  type PlainServerOptions,
  startPlainServer,
} from '../../scripts/embedded/plain-server.ts';
import { waitForExit } from '../../scripts/embedded/processes.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { makeDataFolder } from './data-folder.ts';
import { freePort } from './free-port.ts';

export interface OwnServer {
  /** Its maintenance database. */
  url: string;
  port: number;
  folder: string;
  /** SIGQUIT, as `pg_ctl stop -m immediate`: no checkpoint. Recovery from the log at the next start. */
  crash(): Promise<void>;
  shutDown(): Promise<void>;
  start(): Promise<void>;
  crashAndRestart(): Promise<void>;
  /** Gone for good, its folder too. */
  stop(): Promise<void>;
}

/** What a second server like the one behind this URL needs; undefined where its programs are not on this machine. */
export async function likeServer(
  url: string,
): Promise<Pick<PlainServerOptions, 'binaries' | 'settings'> | undefined> {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  const { rows } = await pool.query<{ folder: string; libraries: string }>(
    `SELECT setting AS folder, current_setting('shared_preload_libraries') AS libraries FROM pg_config WHERE name = 'BINDIR'`,
  );
  const { folder = '', libraries = '' } = rows[0] ?? {};
  const binaries = { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') };
  if (!existsSync(binaries.initdb) || !existsSync(binaries.postgres)) return undefined;
  return { binaries, settings: { shared_preload_libraries: libraries, max_worker_processes: '32' } };
}

/** @param prepare fills the folder before the first start; without it, initdb does. */
export async function startOwnServer(
  prepare?: (folder: string) => void | Promise<void>,
  options: Partial<PlainServerOptions> = {},
): Promise<OwnServer> {
  const folder = makeDataFolder('atriz-own-server-');
  const port = await freePort();
  const quiet = { onProgress: () => undefined, onLog: () => undefined };
  await prepare?.(folder);
  let server: PlainServer;
  // Durable: what it has acknowledged must be there after a crash.
  const start = async () => {
    server = await startPlainServer({ folder, port, durable: true, ...quiet, ...options });
  };
  const crash = async () => {
    const pid = Number(readFileSync(join(folder, 'plain', 'postmaster.pid'), 'utf8').split('\n')[0]);
    process.kill(pid, 'SIGQUIT');
    await waitForExit(pid, 15_000);
  };
  await start();
  return {
    url: `postgresql://postgres:postgres@127.0.0.1:${port}/postgres`,
    port,
    folder,
    crash,
    shutDown: () => server.stop(),
    start,
    crashAndRestart: async () => {
      await crash();
      await start();
    },
    stop: async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface ReplicatedServers {
  primary: OwnServer;
  /** Streams from the primary, and must have a commit on its disk before the primary acknowledges it. */
  standby: OwnServer;
  /** Both hosts in one URL, the primary first. */
  url: (target: string) => string;
  stop(): Promise<void>;
}

/**
 * A primary and a synchronous streaming standby. The standby begins as a copy of the stopped primary,
 * as PostgreSQL's documentation allows: npm's binaries have no pg_basebackup.
 */
export async function startReplicatedServers(): Promise<ReplicatedServers> {
  const primary = await startOwnServer();
  await primary.shutDown();
  const standby = await startOwnServer((folder) => {
    execFileSync('cp', ['-a', join(primary.folder, 'plain'), join(folder, 'plain')]);
    rmSync(join(folder, 'plain', 'postmaster.pid'), { force: true });
    writeFileSync(join(folder, 'plain', 'standby.signal'), '');
    const source = `host=127.0.0.1 port=${primary.port} user=postgres password=postgres application_name=standby`;
    appendFileSync(
      join(folder, 'plain', 'postgresql.auto.conf'),
      `primary_conninfo = '${source}'\nwal_retrieve_retry_interval = '100ms'\n`,
    );
  });
  await primary.start();
  await using db = createDatabasePool({ connectionString: primary.url, max: 1 });
  while ((await db.query("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")).rowCount === 0) {
    await sleep(20);
  }
  await db.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
  await db.query('SELECT pg_reload_conf()');
  const hosts = [primary, standby].map(({ port }) => `127.0.0.1:${port}`).join(',');
  return {
    primary,
    standby,
    url: (target) => `postgresql://postgres:postgres@${hosts}/postgres?target_session_attrs=${target}`,
    stop: async () => {
      await standby.stop();
      await primary.stop();
    },
  };
}
