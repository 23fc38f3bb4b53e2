// Starts or finds the server of the suite: TEST_SERVER=embedded|docker|url.
import { execFileSync } from 'node:child_process';
import { appendFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { GenericContainer, getContainerRuntimeClient, Wait } from 'testcontainers';
import { choosePgDump, installedPrograms } from '../../scripts/backup/client/versions.ts';
import { startCluster } from '../../scripts/embedded/cluster.ts';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { makeDataFolder } from './data-folder.ts';
import { hasPgBouncer } from './pgbouncer.ts';

/** What a test may need, and what is missing where it is not there. */
export const capabilities = {
  timescaledb: 'the server does not offer TimescaleDB',
  'concurrent-sessions': 'the embedded tracking server has one session, which clients take in turns',
  'background-workers': 'the embedded tracking server has no background workers',
  psql: 'psql is not on the PATH',
  openssl: 'openssl is not on the PATH',
  pg_dump: 'no pg_dump that is installed fits the server of the plain databases',
  pgbouncer: 'pgbouncer is neither on the PATH nor in /usr/sbin',
  sessions: 'the pools go through PgBouncer in transaction mode, which shares sessions',
} as const;
export type Capability = keyof typeof capabilities;

export interface TestServer {
  kind: 'embedded' | 'docker' | 'url';
  /** Maintenance database of the server for core and the applications. */
  plain: string;
  /** Maintenance database of the server for tracking. */
  tracking: string;
  /** The same server through a transaction-pooling proxy, where the pools of the tests go then. */
  proxy?: string;
  /** Of the tracking server; the other one always has concurrent sessions. */
  capabilities: Capability[];
}

/** Whether the server can hold this database, of which tests clone a migrated template then. */
export const hasTemplate = (key: DatabaseKey, has: readonly Capability[]): boolean =>
  definitionOf(key).extensions.every((extension) => has.includes(extension));

const image = process.env.TEST_IMAGE || 'timescale/timescaledb:2.29.2-pg17';

export async function startServer(): Promise<TestServer & { stop: () => Promise<void> }> {
  const kind = await chooseKind();
  switch (kind) {
    case 'embedded':
      return startEmbedded();
    case 'docker':
      return startDocker();
    case 'url':
      return findGiven(requireUrl());
  }
}

async function chooseKind(): Promise<TestServer['kind']> {
  const kind = process.env.TEST_SERVER;
  if (kind === 'embedded' || kind === 'docker' || kind === 'url') return kind;
  if (kind) throw new Error(`TEST_SERVER is "${kind}": it should be embedded, docker or url.`);
  return getContainerRuntimeClient().then(
    () => 'docker',
    () => 'embedded',
  );
}

function requireUrl(): string {
  const url = process.env.TEST_DATABASE_URL;
  if (url) return url;
  throw new Error('TEST_SERVER is "url", but TEST_DATABASE_URL is not set: a superuser, any database.');
}

/** A URL with pgbouncer=true needs a second one, of the server itself: to create databases and to migrate them. */
async function findGiven(url: string) {
  const isProxied = /[?&]pgbouncer=true\b/.test(url);
  const direct = isProxied ? process.env.TEST_DIRECT_URL : url;
  if (!direct) throw new Error('TEST_DATABASE_URL goes through a proxy: set TEST_DIRECT_URL too.');
  const found = await findServer(direct, 'url', async () => undefined);
  if (!isProxied) return found;
  const capabilities = found.capabilities.filter((capability) => capability !== 'sessions');
  return { ...found, capabilities, proxy: url };
}

async function startEmbedded() {
  const folder = makeDataFolder('atriz-test-');
  const cluster = await startCluster({
    folder,
    durable: false,
    onLog: (line) => {
      appendFileSync(join(folder, 'postgres.log'), `${line}\n`);
      // What a test reports as a closed connection has its reason here, unless the test meant it.
      if (/ ended: (?!57P01|28|3D000)/.test(line) && !/dropped|cancel|stops/.test(line)) console.error(line);
    },
  });
  return {
    kind: 'embedded' as const,
    plain: `${cluster.servers.plain}/postgres`,
    tracking: `${cluster.servers.timescaledb}/postgres`,
    capabilities: [
      'timescaledb' as const,
      'sessions' as const,
      ...(await programs(`${cluster.servers.plain}/postgres`)),
    ],
    stop: async () => {
      await cluster.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function startDocker() {
  const container = await new GenericContainer(image)
    .withEnvironment({ POSTGRES_PASSWORD: 'postgres', TIMESCALEDB_TELEMETRY: 'off' })
    .withExposedPorts(5432)
    .withTmpFs({ '/var/lib/postgresql/data': 'rw' })
    .withCommand([
      'postgres',
      '-c',
      'fsync=off',
      '-c',
      'timescaledb.max_background_workers=32',
      '-c',
      'max_worker_processes=64',
    ])
    // The image starts the server twice: once to initialise, then for good.
    .withWaitStrategy(Wait.forLogMessage(/ready to accept connections/, 2))
    .start();
  const url = `postgresql://postgres:postgres@${container.getHost()}:${container.getMappedPort(5432)}/postgres`;
  return findServer(url, 'docker', async () => {
    await container.stop();
  });
}

/** A native server: everything that it offers, it offers for all five databases. */
async function findServer(url: string, kind: 'docker' | 'url', stop: () => Promise<void>) {
  const maintenance = withDatabase(url, 'postgres');
  await using pool = createDatabasePool({ connectionString: maintenance });
  const { rowCount } = await pool.query("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'");
  const found: Capability[] = [
    'concurrent-sessions',
    'background-workers',
    'sessions',
    ...(await programs(maintenance)),
  ];
  if (rowCount > 0) found.push('timescaledb');
  return { kind, plain: maintenance, tracking: maintenance, capabilities: found, stop };
}

async function programs(plain: string): Promise<Capability[]> {
  const found: Capability[] = [];
  for (const [program, ask] of [
    ['psql', '--version'],
    ['openssl', 'version'],
  ] as const) {
    try {
      execFileSync(program, [ask], { stdio: 'ignore' });
      found.push(program);
    } catch {
      // Not there: tests that need it say so.
    }
  }
  if (hasPgBouncer()) found.push('pgbouncer');
  await using pool = createDatabasePool({ connectionString: plain, max: 1 });
  const { rows } = await pool.query<{ major: number }>(
    "SELECT current_setting('server_version_num')::int / 10000 AS major",
  );
  if (choosePgDump(await installedPrograms(), rows[0]?.major ?? 0)) found.push('pg_dump');
  return found;
}
