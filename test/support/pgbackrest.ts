// A server of a test's own whose WAL and backups pgBackRest keeps.
import { execFile, execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installedPrograms } from '../../scripts/backup/client/versions.ts';
import type { PlainServerOptions } from '../../scripts/embedded/plain-server.ts';
import { makeServerFolder, serverUser } from '../../scripts/embedded/server-user.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { isOlder } from '../../src/timescale/timescale.ts';
import { makeDataFolder } from './data-folder.ts';
import { type OwnServer, startOwnServer } from './own-server.ts';

/** The first pgBackRest for each PostgreSQL: the release notes of pgBackRest. */
const firstVersions = new Map([
  [15, '2.39'],
  [16, '2.48'],
  [17, '2.53.1'],
  [18, '2.55'],
]);

export interface ServerPrograms {
  folder: string;
  hasTimescale: boolean;
}

/** The newest PostgreSQL here that the pgBackRest here supports, or why there is none. */
export async function findArchivable(): Promise<ServerPrograms | string> {
  const version = pgBackRestVersion();
  if (version === undefined) return 'pgbackrest is not on the PATH';
  const servers = (await installedPrograms()).filter(
    ({ folder }) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'pg_config')),
  );
  const supported = servers
    .filter(({ major }) => !isOlder(version, firstVersions.get(major) ?? '999'))
    .toSorted((one, other) => other.major - one.major);
  const [newest] = supported;
  if (!newest) return `pgbackrest ${version} supports no PostgreSQL server that is installed here`;
  const libraries = execFileSync(join(newest.folder, 'pg_config'), ['--pkglibdir'], { encoding: 'utf8' });
  return {
    folder: newest.folder,
    hasTimescale: newest.major > 15 && existsSync(join(libraries.trim(), 'timescaledb.so')),
  };
}

function pgBackRestVersion(): string | undefined {
  try {
    return /\d+(\.\d+)+/.exec(execFileSync('pgbackrest', ['version'], { encoding: 'utf8' }))?.[0];
  } catch {
    return undefined;
  }
}

export interface ArchivedServer extends OwnServer {
  /** Folder of pgBackRest's backups and WAL. */
  repository: string;
  /** For commands of this package: where the server is, and pgBackRest's own variables. */
  environment: Record<string, string>;
  /** Lines of the server's log, which says when a table was dropped. */
  log: readonly string[];
  /** Runs a command of pgBackRest as the user of the server. */
  pgBackRest(...args: string[]): Promise<void>;
  /** A second server, made by `restore` with these arguments, on another port. */
  startCopy(...args: string[]): Promise<OwnServer>;
}

/** With archiving as docs/operating.md describes it; `stanza-create` has not been run. */
export async function startArchivedServer({ folder, hasTimescale }: ServerPrograms): Promise<ArchivedServer> {
  const own = makeDataFolder('atriz-pgbackrest-');
  const user = await serverUser(own);
  const writable = join(own, 'server');
  await makeServerFolder(own, writable, user);
  const repository = join(writable, 'repository');
  const configuration = join(own, 'pgbackrest.conf');
  const stanza = 'main';
  const log: string[] = [];
  const options: Partial<PlainServerOptions> = {
    binaries: { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') },
    settings: {
      unix_socket_directories: writable,
      ...(hasTimescale && {
        shared_preload_libraries: 'timescaledb',
        'timescaledb.telemetry_level': 'off',
        max_worker_processes: '40',
      }),
    },
    onLog: (line) => log.push(line),
  };
  const server = await startOwnServer(undefined, options);
  const data = join(server.folder, 'plain');
  writeFileSync(
    configuration,
    `[global]
repo1-path=${repository}
repo1-retention-full=2
compress-type=lz4
start-fast=y
log-path=${writable}
lock-path=${writable}
[${stanza}]
pg1-path=${data}
pg1-port=${server.port}
pg1-socket-path=${writable}
pg1-user=postgres
`,
  );
  const hasChecksums = await readsChecksums(server.url);
  await server.shutDown();
  if (!hasChecksums) {
    const asUser = { stdio: 'ignore', cwd: writable, ...(user && { uid: user.uid, gid: user.gid }) } as const;
    execFileSync(join(folder, 'pg_checksums'), ['--enable', `--pgdata=${data}`], asUser);
  }
  appendFileSync(
    join(data, 'postgresql.conf'),
    `archive_mode = on
archive_command = 'pgbackrest --config=${configuration} --stanza=${stanza} archive-push %p'
archive_timeout = 1min
log_statement = ddl
log_line_prefix = '%m [%p] '
`,
  );
  await server.start();
  const pgBackRest = async (...args: string[]) => {
    await promisify(execFile)('pgbackrest', [`--config=${configuration}`, `--stanza=${stanza}`, ...args], {
      cwd: writable,
      env: { PATH: process.env.PATH, PGPASSWORD: 'postgres' },
      ...(user && { uid: user.uid, gid: user.gid }),
    });
  };
  return {
    ...server,
    repository,
    environment: {
      PGHOST: '127.0.0.1',
      PGPORT: String(server.port),
      PGUSER: 'postgres',
      PGPASSWORD: 'postgres',
      PGBACKREST_STANZA: stanza,
      PGBACKREST_CONFIG: configuration,
    },
    log,
    pgBackRest,
    startCopy: (...args) =>
      startOwnServer(async (copy) => {
        const path = join(copy, 'plain');
        await makeServerFolder(copy, path, user);
        await pgBackRest(...args, `--pg1-path=${path}`, 'restore');
      }, options),
    stop: async () => {
      await server.stop();
      rmSync(own, { recursive: true, force: true });
    },
  };
}

/** PostgreSQL 18 has checksums by default. With them, pgBackRest finds damaged pages. */
async function readsChecksums(url: string): Promise<boolean> {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  const { rows } = await pool.query("SELECT current_setting('data_checksums')::bool AS checksums");
  return rows[0]?.checksums === true;
}
