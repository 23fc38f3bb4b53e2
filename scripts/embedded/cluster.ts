// The embedded cluster for development and tests: a plain PostgreSQL and a TimescaleDB server, on loopback.
import { appendFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EmbeddedClusterError } from './errors.ts';
import { writeJson } from './files.ts';
import { lockFolder } from './lock.ts';
import { startPlainServer, stopOrphan } from './plain-server.ts';
import { lastPorts, rememberPorts, startOnPort } from './ports.ts';
import { TimescaleServer } from './timescaledb/server.ts';

export interface EmbeddedCluster {
  /** Server URLs without a database name, e.g. postgresql://postgres:postgres@127.0.0.1:54317 */
  servers: { plain: string; timescaledb: string };
  /** Disconnects the clients and stops both servers. Can be called more than once. */
  stop(): Promise<void>;
}

export interface EmbeddedClusterOptions {
  /** Data folder, created if it does not exist. One running cluster per folder. */
  folder: string;
  /** If 0 or undefined: the last used port, else 54317 (plain) or 54318 (timescaledb), else the next free port. */
  ports?: { plain?: number; timescaledb?: number };
  /** If false, the plain server does not fsync, for folders that are not kept. Default true. */
  durable?: boolean;
  /** How long a client of the timescaledb server waits for the backend, in milliseconds. Default 60,000. */
  backendLockTimeout?: number;
  onProgress?: (message: string) => void;
  /** Called with each line of the servers' logs. By default, lines are appended to <folder>/postgres.log. */
  onLog?: (line: string) => void;
}

/**
 * Starts both servers and writes `<folder>/cluster.json` with their URLs.
 * @throws EmbeddedClusterError with the problem, the folder and the mend.
 */
export async function startCluster(options: EmbeddedClusterOptions): Promise<EmbeddedCluster> {
  const folder = resolve(options.folder);
  await makeFolder(folder);
  const onLog = options.onLog ?? logTo(join(folder, 'postgres.log'));
  const onProgress = options.onProgress ?? (() => undefined);
  const closers: (() => Promise<void>)[] = [await lockFolder(folder)];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    await stopOrphan({ folder, onProgress });
    const last = await lastPorts(folder);
    const asked = options.ports ?? {};
    const [plain, timescaledb] = await Promise.allSettled([
      startOnPort('plain', folder, { asked: asked.plain, last }, (port) =>
        startPlainServer({ folder, port, durable: options.durable ?? true, onProgress, onLog }),
      ),
      startOnPort('timescaledb', folder, { asked: asked.timescaledb, last }, (port) =>
        TimescaleServer.start({
          folder: join(folder, 'timescaledb'),
          port,
          backendLockTimeout: options.backendLockTimeout ?? 60_000,
          onLog: (line) => onLog(`${new Date().toISOString()} timescaledb: ${line}`),
          onProgress,
        }),
      ),
    ]);
    for (const result of [plain, timescaledb]) {
      if (result.status === 'fulfilled') closers.push(() => result.value.server.stop());
    }
    if (plain.status === 'rejected') throw plain.reason;
    if (timescaledb.status === 'rejected') throw timescaledb.reason;
    const ports = { plain: plain.value.port, timescaledb: timescaledb.value.port };
    await rememberPorts(folder, ports);
    const servers = { plain: urlOf(ports.plain), timescaledb: urlOf(ports.timescaledb) };
    const description = join(folder, 'cluster.json');
    await writeJson(description, { pid: process.pid, startedAt: new Date().toISOString(), servers });
    closers.push(() => rm(description, { force: true }));
    let stopped: Promise<void> | undefined;
    return {
      servers,
      stop: () => {
        stopped ??= close();
        return stopped;
      },
    };
  } catch (error) {
    await close();
    if (error instanceof EmbeddedClusterError) throw error;
    throw new EmbeddedClusterError('start_failed', `The embedded cluster did not start: ${String(error)}`, {
      folder,
      mend: 'fix what the message says; if you do not need the data, delete the folder and start again',
      cause: error,
    });
  }
}

/** A log that cannot be written (disk full, folder deleted) must not stop the servers. */
function logTo(file: string): (line: string) => void {
  return (line) => {
    try {
      appendFileSync(file, `${line}\n`);
    } catch {
      // There is nowhere to report the error.
    }
  };
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw new EmbeddedClusterError(
      'folder_not_accessible',
      `The data folder cannot be created: ${String(error)}`,
      {
        folder,
        mend: 'choose a folder that you may write to',
        cause: error,
      },
    );
  }
}

function urlOf(port: number): string {
  return `postgresql://postgres:postgres@127.0.0.1:${port}`;
}
