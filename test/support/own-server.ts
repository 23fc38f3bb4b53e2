// A PostgreSQL server of a test's own, which it may crash: on whatever server the suite runs.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PlainServer, startPlainServer } from '../../scripts/embedded/plain.ts';
import { waitForExit } from '../../scripts/embedded/processes.ts';

export interface OwnServer {
  /** Its maintenance database. */
  url: string;
  /** What `pg_ctl restart -m immediate` does: SIGQUIT, no checkpoint, recovery from the log. */
  crashAndRestart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startOwnServer(): Promise<OwnServer> {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-own-server-'));
  const port = await freePort();
  const quiet = { onProgress: () => undefined, onLog: () => undefined };
  // Durable: what it has acknowledged must be there after a crash.
  const start = () => startPlainServer({ folder, port, durable: true, ...quiet });
  let server: PlainServer = await start();
  return {
    url: `postgresql://postgres:postgres@127.0.0.1:${port}/postgres`,
    crashAndRestart: async () => {
      const pid = Number(readFileSync(join(folder, 'plain', 'postmaster.pid'), 'utf8').split('\n')[0]);
      process.kill(pid, 'SIGQUIT');
      await waitForExit(pid, 15_000);
      server = await start();
    },
    stop: async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
