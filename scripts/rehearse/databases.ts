// Rehearses the pending migrations of several databases, each on a copy that is dropped afterwards.
import { resolve } from 'node:path';
import type { DatabaseTarget } from '../../src/databases.ts';
import { getMigrationStatus } from '../../src/migrations/index.ts';
import { withDumps } from '../backup/create/backup.ts';
import { BackupError } from '../backup/errors.ts';
import { interruptible, type Running } from '../backup/interruptible.ts';
import { findBackup } from '../backup/library/backups.ts';
import type { DatabaseBackup } from '../backup/library/manifest.ts';
import { withRestored } from '../backup/restore/beside.ts';
import { withPool } from '../cli/pools.ts';
import { type DatabaseRehearsal, rehearse } from './rehearse.ts';
import { findProblems } from './report.ts';

export interface RehearsalOptions {
  /** Folder of the backup to use, or `latest`. */
  readonly from: string;
  /** If true, dumps the database now instead of using a backup. */
  readonly live?: boolean;
  /** Folder of the backups. With `live`, it also holds the dump until the rehearsal ends. */
  readonly to: string;
  readonly traffic?: boolean;
  /** How long a migration may block writes to a table, in seconds. */
  readonly maxBlock: number;
}

export const defaultMaxBlock = 1;

/** The result has no entry for a database without pending migrations. */
export async function rehearseDatabases(
  keys: readonly DatabaseTarget[],
  options: RehearsalOptions,
): Promise<DatabaseRehearsal[]> {
  const pending = new Map<DatabaseTarget, string[]>();
  for (const key of keys) {
    const state = await withPool(key, (pool) => getMigrationStatus(pool, key));
    const tags = state.pending.map(({ tag }) => tag);
    if (tags.length > 0) pending.set(key, tags);
  }
  return interruptible('The rehearsal', async (running) => {
    const rehearsals: DatabaseRehearsal[] = [];
    for (const [key, tags] of pending) rehearsals.push(await rehearseOne(key, tags, options, running));
    return rehearsals;
  });
}

async function rehearseOne(
  key: DatabaseTarget,
  pending: readonly string[],
  options: RehearsalOptions,
  running: Running,
): Promise<DatabaseRehearsal> {
  const { signal, progress } = running;
  return withSource(key, options, running, (folder, backup) =>
    withRestored(key, folder, backup, running, async ({ beside }) => {
      const work = rehearse(key, beside.url, {
        pending,
        withTraffic: options.traffic ?? false,
        onStage: (text) => progress.stage(key, `rehearsing ${text}`),
      });
      const migrations = await Promise.race([work, rejectedBy(signal)]);
      progress.stage(key, 'rehearsed');
      const problems = findProblems(migrations, options.maxBlock * 1000);
      return { database: key, backup: options.live ? null : folder, migrations, problems };
    }),
  );
}

async function withSource<Result>(
  key: DatabaseTarget,
  { from, live, to }: RehearsalOptions,
  running: Running,
  work: (folder: string, backup: DatabaseBackup) => Promise<Result>,
): Promise<Result> {
  if (!live) {
    const { folder, manifest } = await findBackup(from, resolve(to), [key]);
    const backup = manifest.databases.find((database) => database.key === key);
    if (backup?.holds === 'everything') return work(folder, backup);
    throw new BackupError(
      `${folder} does not hold the rows of ${key}: name another by --from, or take --live, which dumps it now.`,
    );
  }
  return withDumps([key], { to: resolve(to), ...running }, ({ path }, { databases }) =>
    work(path, databases[0] as DatabaseBackup),
  );
}

const rejectedBy = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
