// Dumps one database and reads its contents in the same snapshot as pg_dump.

import { chmod, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { databaseUrl } from '../../../src/config.ts';
import type { DatabaseTarget } from '../../../src/databases.ts';
import { isProxied } from '../../../src/driver/client-options.ts';
import { parseDatabaseUrl } from '../../../src/driver/database-url.ts';
import { AtrizDatabaseError, ConfigurationError } from '../../../src/errors.ts';
import { createDatabasePool } from '../../../src/pool.ts';
import { withCatalogPath } from '../../../src/sql/catalog-path.ts';
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import { chunkPatterns } from '../../../src/timescale/catalog.ts';
import type { Transaction } from '../../../src/transaction.ts';
import { formatBytes } from '../../cli/output.ts';
import { libpqEnvironment } from '../client/environment.ts';
import { runClientProgram } from '../client/run.ts';
import { type ClientPrograms, requirePgDump } from '../client/versions.ts';
import { type Contents, fixSession, readContents, readServer, readTables, type Table } from '../contents.ts';
import { BackupError } from '../errors.ts';
import type { Running } from '../interruptible.ts';
import type { DatabaseBackup } from '../library/manifest.ts';
import { type RunFolder, writeDurably } from './run-folder.ts';

interface DumpOptions extends Running {
  readonly holds: DatabaseBackup['holds'];
  readonly installed: readonly ClientPrograms[];
}

/** How long pg_dump waits for a lock, such as that of a migration. While it waits, it can block other sessions. */
const lockWaitMs = 300_000;

/** A finished dump. Its files must still be hashed. */
interface Dumped {
  readonly entry: Omit<DatabaseBackup, 'dump' | 'catalog'>;
  readonly files: { readonly dump: string; readonly catalog: string };
}

/** @throws BackupError, ConnectionError or ConfigurationError; the caller must remove the folder. */
export async function dumpDatabase(
  key: DatabaseTarget,
  folder: RunFolder,
  options: DumpOptions,
): Promise<Dumped> {
  const started = performance.now();
  const url = directUrl(key);
  const pool = createDatabasePool({ connectionString: url, applicationName: 'atriz-db', max: 1 });
  const failure = new AbortController();
  const signal = AbortSignal.any([options.signal, failure.signal]);
  try {
    const dumped = await withCatalogPath(
      pool,
      (transaction) => dumpSnapshot(transaction, { key, url, folder, failure, ...options, signal }),
      { isolation: 'repeatable read', readOnly: true },
    );
    options.progress.stage(key, 'dumped');
    const { catalog, ...contents } = dumped.contents;
    const files = { dump: dumpName(key), catalog: `${fileName(key)}.catalog.json` };
    await writeDurably(join(folder.path, files.catalog), `${JSON.stringify(catalog, null, 1)}\n`);
    const entry = {
      key,
      database: pool.name,
      holds: options.holds,
      pgDump: { version: dumped.programs.version, major: dumped.programs.major },
      databaseBytes: dumped.bytes,
      seconds: (performance.now() - started) / 1000,
      ...contents,
    };
    return { entry, files };
  } catch (error) {
    throw describeFailure(key, signal.aborted ? signal.reason : error);
  } finally {
    await pool.close();
  }
}

/** Windows allows no colon in the name of a file. */
const fileName = (key: DatabaseTarget) => key.replace(':', '-');
const dumpName = (key: DatabaseTarget) => `${fileName(key)}.dump`;

/** @throws ConfigurationError for a URL that pg_dump cannot use. */
export function directUrl(key: DatabaseTarget): string {
  const { url, origin } = databaseUrl(key);
  const parsed = parseDatabaseUrl(url, origin);
  if (parsed.parameters.has('sslpassword')) {
    throw new ConfigurationError(
      `${origin} has an sslpassword, which no environment variable passes to pg_dump: name a key without a passphrase.`,
    );
  }
  // pg_dump and the exported snapshot need sessions, not pooled transactions.
  if (isProxied({}, parsed)) {
    throw new ConfigurationError(
      `${origin} leads through a transaction-pooling proxy (pgbouncer=true): backups and restores need the server's own URL.`,
    );
  }
  return url;
}

interface SnapshotOptions extends DumpOptions {
  readonly key: DatabaseTarget;
  readonly url: string;
  readonly folder: RunFolder;
  readonly failure: AbortController;
}

async function dumpSnapshot(
  transaction: Transaction,
  options: SnapshotOptions,
): Promise<{ contents: Contents; programs: ClientPrograms; bytes: number }> {
  const { key, url, holds, installed, failure, signal } = options;
  await refuseSingleSession(transaction);
  const server = await readServer(transaction);
  const programs = requirePgDump(installed, { database: transaction.name, ...server });
  await fixSession(transaction);
  const tables = await readTables(transaction);
  const { rows } = await transaction.query<{ snapshot: string; bytes: number; pid: number }>(
    `SELECT pg_export_snapshot() AS snapshot, pg_backend_pid() AS pid,
       pg_database_size(current_database())::float8 AS bytes`,
  );
  const { snapshot = '', bytes = 0, pid = 0 } = rows[0] ?? {};
  const withRows = tables.filter((table) => holds === 'everything' || isRecord(table));
  const args = [`--snapshot=${snapshot}`, ...(holds === 'structure' ? withoutRows(tables) : [])];
  const fail = (error: unknown) => failure.abort(error);
  const running = { over: false };
  const cancel = () => void cancelQueries(url, pid, running);
  signal.addEventListener('abort', cancel);
  try {
    // pg_dump reads the exported snapshot, which is valid until this transaction ends.
    const reading = readContents(transaction, key, withRows, signal);
    const dumping = runPgDump(programs, args, options);
    reading.catch(fail);
    dumping.catch(fail);
    const [contents] = await Promise.allSettled([reading, dumping]);
    signal.throwIfAborted();
    if (contents.status === 'rejected') throw contents.reason;
    return { contents: contents.value, programs, bytes };
  } finally {
    running.over = true;
    signal.removeEventListener('abort', cancel);
  }
}

// After a failure of pg_dump or a Ctrl-C, our session may still run a long count or wait for a lock: cancel the query.
async function cancelQueries(url: string, pid: number, running: { over: boolean }): Promise<void> {
  const pool = createDatabasePool({ connectionString: url, applicationName: 'atriz-db', max: 1 });
  try {
    while (!running.over) {
      await pool.query('SELECT pg_catalog.pg_cancel_backend($1)', [pid]);
      await sleep(100);
    }
  } catch {
    // A server that refuses connections is ending the session itself.
  } finally {
    await pool.close();
  }
}

/** The migrations table belongs to the structure: without its rows, migrations would be applied again. */
const isRecord = ({ schema }: Table) => schema === 'drizzle';

function withoutRows(tables: readonly Table[]): string[] {
  const own = tables
    .filter((table) => !isRecord(table))
    .map(({ schema, name }) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`);
  // TimescaleDB's catalog keeps its rows: without them, hypertables would be restored as plain tables.
  const chunks = chunkPatterns;
  return [...own, ...chunks].map((pattern) => `--exclude-table-data=${pattern}`);
}

async function runPgDump(
  programs: ClientPrograms,
  args: readonly string[],
  { key, url, folder, signal, progress }: SnapshotOptions,
): Promise<void> {
  const path = join(folder.path, dumpName(key));
  const timer = setInterval(() => {
    stat(path).then(
      ({ size }) => progress.stage(key, `dumping, ${formatBytes(size)}`),
      () => undefined,
    );
  }, 250);
  try {
    await runClientProgram(
      join(programs.folder, 'pg_dump'),
      ['--format=custom', `--file=${path}`, '--no-password', `--lock-wait-timeout=${lockWaitMs}`, ...args],
      {
        environment: libpqEnvironment(parseDatabaseUrl(url, databaseUrl(key).origin)),
        signal,
        onStart: (pid) => folder.addChild(pid),
      },
    );
    await chmod(path, 0o600);
  } finally {
    clearInterval(timer);
  }
}

// The embedded tracking server serves one session at a time: pg_dump and our transaction would wait for each other.
async function refuseSingleSession(transaction: Transaction): Promise<void> {
  const { rows } = await transaction.query<{ version: string }>('SELECT version()');
  if (!/emscripten|emcc|wasm/i.test(rows[0]?.version ?? '')) return;
  throw new BackupError(
    `${transaction.name} is on the embedded tracking server, which has one session, and pg_dump needs a second one: ` +
      'it is for development, and backups need a server of your own.',
  );
}

function describeFailure(key: DatabaseTarget, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof AtrizDatabaseError) {
    return error instanceof BackupError && !error.message.startsWith(key)
      ? new BackupError(`${key}: ${error.message}`, { cause: error })
      : error;
  }
  const { code } = error as NodeJS.ErrnoException;
  return code ? new BackupError(`${key}: ${error.message} (${code}).`, { cause: error }) : error;
}
