// The zero-install cluster for development and tests: a plain PostgreSQL and a TimescaleDB, on loopback only.
import { appendFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EmbeddedClusterError } from './errors.ts';
import { writeJson } from './files.ts';
import { lockFolder } from './lock.ts';
import { startPlainServer, stopOrphan } from './plain-server.ts';
import { lastPorts, rememberPorts, startOnPort } from './ports.ts';
import { TimescaleServer } from './timescaledb/server.ts';

export { EmbeddedClusterError } from './errors.ts';

export interface EmbeddedCluster {
  /** Server URLs without a database name, e.g. postgresql://postgres:postgres@127.0.0.1:54317 */
  servers: { plain: string; timescaledb: string };
  /** Ends clients, flushes and stops both servers; may be called twice. */
  stop(): Promise<void>;
}

export interface EmbeddedClusterOptions {
  /** Data folder, created when missing. One running cluster per folder. */
  folder: string;
  /** 0 or undefined: the last used, else 54317 and 54318, else the next free one. */
  ports?: { plain?: number; timescaledb?: number };
  /** false: no fsync in the plain server, for folders that are thrown away. Default true. */
  durable?: boolean;
  /** How long a client of the timescaledb server waits for the backend, in milliseconds. Default 60,000. */
  waitTimeout?: number;
  onProgress?: (message: string) => void;
  /** Lines of the servers' logs; appended to <folder>/postgres.log by default. */
  onLog?: (line: string) => void;
}

/**
 * Starts both servers and writes `<folder>/cluster.json` with their URLs.
 * @throws EmbeddedClusterError saying what is wrong, where, and what mends it.
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
    const results = await Promise.allSettled([
      startOnPort('plain', folder, { asked: asked.plain, last }, (port) =>
        startPlainServer({ folder, port, durable: options.durable ?? true, onProgress, onLog }),
      ),
      startOnPort('timescaledb', folder, { asked: asked.timescaledb, last }, (port) =>
        TimescaleServer.start({
          folder: join(folder, 'timescaledb'),
          port,
          waitTimeout: options.waitTimeout ?? 60_000,
          idleTimeout: 60_000,
          onLog: (line) => onLog(`${new Date().toISOString()} timescaledb: ${line}`),
          onProgress,
        }),
      ),
    ]);
    for (const result of results) {
      if (result.status === 'fulfilled') closers.push(() => result.value.server.stop());
    }
    const [plain, timescaledb] = results.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value.port;
    });
    if (plain === undefined || timescaledb === undefined) throw new Error('a server is missing');
    await rememberPorts(folder, { plain, timescaledb });
    const servers = { plain: urlOf(plain), timescaledb: urlOf(timescaledb) };
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
      mend: 'act on the message; if the data may go, delete the folder and start again',
      cause: error,
    });
  }
}

/** A log that cannot be written (disk full, folder deleted) must not end the servers. */
function logTo(file: string): (line: string) => void {
  return (line) => {
    try {
      appendFileSync(file, `${line}\n`);
    } catch {
      // Nothing can report it at this point.
    }
  };
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw new EmbeddedClusterError(
      'folder_not_accessible',
      `The data folder cannot be made: ${String(error)}`,
      {
        folder,
        mend: 'name a folder that you may write to',
        cause: error,
      },
    );
  }
}

function urlOf(port: number): string {
  return `postgresql://postgres:postgres@127.0.0.1:${port}`;
}
