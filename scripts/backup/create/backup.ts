// One backup run: dumps several databases in parallel into one folder, which becomes a backup if all succeed.

import type { DatabaseTarget } from '../../../src/databases.ts';
import type { Pool } from '../../../src/pool.ts';
import { withPool } from '../../cli/pools.ts';
import { installedPrograms } from '../client/versions.ts';
import { inParallel, type Running } from '../interruptible.ts';
import { type Backup, describeFile } from '../library/backups.ts';
import type { DatabaseBackup, Manifest } from '../library/manifest.ts';
import { directUrl, dumpDatabase } from './dump.ts';
import { type RunFolder, startRun } from './run-folder.ts';

export interface BackupOptions extends Running {
  /** Folder that holds the backups. */
  readonly to: string;
  /** Number of databases dumped in parallel; default: 1. */
  readonly jobs?: number;
  /** Default: everything. */
  readonly holds?: (key: DatabaseTarget) => DatabaseBackup['holds'];
}

/** Backs up all databases or none: a failure removes the folder. */
export function makeBackup(keys: readonly DatabaseTarget[], options: BackupOptions): Promise<Backup> {
  return withDumps(keys, options, async (folder, manifest) => ({
    folder: await folder.complete(manifest),
    manifest,
  }));
}

/** Dumps the databases into a new folder and runs `work`. Then removes the folder, unless `work` has completed it. */
export async function withDumps<Result>(
  keys: readonly DatabaseTarget[],
  options: BackupOptions,
  work: (folder: RunFolder, manifest: Manifest) => Promise<Result>,
): Promise<Result> {
  for (const key of keys) directUrl(key);
  const folder = await startRun(options.to);
  try {
    return await work(folder, await dumpAll(keys, folder, options));
  } finally {
    await folder.discard();
  }
}

async function dumpAll(
  keys: readonly DatabaseTarget[],
  folder: RunFolder,
  { jobs = 1, holds = () => 'everything', signal, progress }: BackupOptions,
): Promise<Manifest> {
  const startedAt = new Date().toISOString();
  const [installed, order] = await Promise.all([installedPrograms(), jobs > 1 ? largestFirst(keys) : keys]);
  const dumped = await inParallel(order, jobs, signal, async (key, signal) => {
    const { entry, files } = await dumpDatabase(key, folder, {
      holds: holds(key),
      installed,
      signal,
      progress,
    });
    // Hash while the next database is being dumped.
    const hashes = Promise.all([
      describeFile(folder.path, files.dump),
      describeFile(folder.path, files.catalog),
    ]);
    hashes.catch(() => undefined);
    return { key, entry, hashes };
  });
  const databases: DatabaseBackup[] = [];
  dumped.sort((one, other) => keys.indexOf(one.key) - keys.indexOf(other.key));
  for (const { entry, hashes } of dumped) {
    const [dump, catalog] = await hashes;
    databases.push({ ...entry, dump, catalog });
  }
  return { format: 'atriz-backup-1', startedAt, finishedAt: new Date().toISOString(), databases };
}

/** The largest database takes the longest, so it starts first. */
async function largestFirst(keys: readonly DatabaseTarget[]): Promise<DatabaseTarget[]> {
  const sized = await Promise.all(keys.map(async (key) => ({ key, bytes: await withPool(key, readSize) })));
  return sized.sort((one, other) => other.bytes - one.bytes).map(({ key }) => key);
}

async function readSize(pool: Pool): Promise<number> {
  const { rows } = await pool.primary.query<{ bytes: number }>(
    'SELECT pg_catalog.pg_database_size(pg_catalog.current_database())::pg_catalog.float8 AS bytes',
  );
  return rows[0]?.bytes ?? 0;
}
