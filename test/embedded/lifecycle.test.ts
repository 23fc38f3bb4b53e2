// Starting, stopping, being killed, and starting again.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import postgres from 'postgres';
import { afterEach, expect, test } from 'vitest';
import {
  type EmbeddedCluster,
  type EmbeddedClusterOptions,
  startCluster,
} from '../../scripts/embedded/cluster.ts';
import { EmbeddedClusterError } from '../../scripts/embedded/errors.ts';
import { programPath } from '../support/cli.ts';
import { makeDataFolder } from '../support/data-folder.ts';
import { freePort } from '../support/free-port.ts';

const folders: string[] = [];
const children: ChildProcess[] = [];
const clusters: EmbeddedCluster[] = [];

async function start(options: EmbeddedClusterOptions): Promise<EmbeddedCluster> {
  const cluster = await startCluster(options);
  clusters.push(cluster);
  return cluster;
}

async function temporaryFolder(): Promise<string> {
  const folder = makeDataFolder('atriz-lifecycle-test-');
  folders.push(folder);
  return folder;
}

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.stop();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

async function runInChild(folder: string): Promise<{ child: ChildProcess; servers: Record<string, string> }> {
  const child = spawn(process.execPath, [programPath('run-cluster'), folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: tmpdir(),
  });
  children.push(child);
  const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
  return { child, servers: JSON.parse(String(line)) };
}

async function ask(url: string | undefined, act: (sql: postgres.Sql) => Promise<unknown>): Promise<unknown> {
  const sql = postgres(`${url}/postgres`, { max: 1, onnotice: () => undefined });
  try {
    return await act(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

test('cluster.json tells where it listens, is private, and goes with the cluster; the ports stay the same', async () => {
  const folder = join(await temporaryFolder(), 'made', 'by start');
  await mkdir(dirname(folder));
  await chmod(dirname(dirname(folder)), 0o755);
  // Not of the usual range, where another file's cluster could take the ports between a stop and the next start.
  const ports = { plain: await freePort(), timescaledb: await freePort() };
  const cluster = await start({ folder, ports, durable: false });
  const description = join(folder, 'cluster.json');
  expect(JSON.parse(await readFile(description, 'utf8'))).toMatchObject({
    pid: process.pid,
    servers: cluster.servers,
  });
  expect((await stat(description)).mode & 0o777).toBe(0o600);
  await expect(startCluster({ folder })).rejects.toThrow(EmbeddedClusterError);
  await expect(startCluster({ folder })).rejects.toThrow(
    new RegExp(`process ${process.pid}, since 2[\\s\\S]*${folder}`),
  );
  await Promise.all([cluster.stop(), cluster.stop()]);
  expect(existsSync(description)).toBe(false);

  // An owner that has ended, or whose pid belongs to another process by now, owns nothing.
  await writeFile(
    join(folder, 'cluster.lock'),
    JSON.stringify({ pid: 1, startedAt: 'once', startMark: 'another' }),
  );
  const again = await start({ folder, durable: false });
  expect(again.servers).toEqual(cluster.servers);
  await again.stop();
});

test('after kill -9 the next start has all that was committed, on both servers', async () => {
  const folder = await temporaryFolder();
  const { child, servers } = await runInChild(folder);
  for (const url of Object.values(servers)) {
    await ask(url, (sql) => sql`CREATE TABLE kept AS SELECT generate_series(1, 500) AS n`);
  }
  const gone = once(child, 'exit');
  await ask(servers.timescaledb, async (sql) => {
    const never = sql.begin(async (tx) => {
      await tx`DELETE FROM kept`;
      child.kill('SIGKILL');
      throw new Error('killed');
    });
    await never.catch(() => undefined);
  }).catch(() => undefined);
  await gone;
  expect(existsSync(join(folder, 'cluster.json'))).toBe(true);
  const progress: string[] = [];
  const again = await start({ folder, onProgress: (line) => progress.push(line) });
  expect(progress.join()).toContain('that an earlier run left behind');
  for (const url of Object.values(again.servers)) {
    expect(await ask(url, (sql) => sql`SELECT count(*)::int AS n FROM kept`)).toEqual([{ n: 500 }]);
  }
  await again.stop();
});

test('an error at the start carries the last words of PostgreSQL', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'plain'));
  const failure = await startCluster({ folder, durable: false }).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(EmbeddedClusterError);
  expect(String(failure)).toContain('postgresql.conf');
  expect(existsSync(join(folder, 'cluster.lock'))).toBe(false);
});

test.skipIf(process.getuid?.() !== 0)(
  'as root, a folder that its server may not reach is refused with the mend (skipped for other users)',
  async () => {
    const folder = join(await temporaryFolder(), 'inner', 'data');
    await mkdir(dirname(folder), { mode: 0o700 });
    await expect(startCluster({ folder, durable: false })).rejects.toThrow(/may not enter[\s\S]*chmod o\+x/);
  },
);
