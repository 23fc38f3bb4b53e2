// Finds the backups in a folder, and checks that they are complete and that their files match the manifest.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import * as v from 'valibot';
import { definitionOf, isDatabaseTarget } from '../../../src/databases.ts';
import { ConfigurationError } from '../../../src/errors.ts';
import { databaseTargets, selectTargets } from '../../../src/targets.ts';
import { isIncomplete } from '../create/run-folder.ts';
import { BackupError } from '../errors.ts';
import {
  type BackupFile,
  type DatabaseBackup,
  type Manifest,
  manifestName,
  parseManifest,
} from './manifest.ts';

export interface Backup {
  readonly folder: string;
  readonly manifest: Manifest;
}

const namePattern = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z$/;

/** The backups in `parent`, newest first. Skips folders whose name is not a time. */
export async function listBackups(
  parent: string,
): Promise<{ backups: Backup[]; damaged: { folder: string; reason: string }[] }> {
  const names = await readdir(parent).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const backups: Backup[] = [];
  const damaged = [];
  for (const name of names
    .filter((name) => namePattern.test(name))
    .sort()
    .reverse()) {
    const folder = join(parent, name);
    try {
      const backup = await readBackup(folder);
      await checkSizes(backup);
      backups.push(backup);
    } catch (error) {
      if (!(error instanceof BackupError)) throw error;
      damaged.push({ folder, reason: error.message });
    }
  }
  return { backups, damaged };
}

/**
 * @param from the folder of a backup, or `latest`: the newest backup in `parent` that holds all databases in `names`.
 * If `names` is empty, `latest` is the newest backup with all critical databases, because some runs back up only a few
 * databases. If there is none, `latest` is the newest backup.
 */
export async function findBackup(from: string, parent: string, names: readonly string[]): Promise<Backup> {
  if (from !== 'latest') return refuseUnplaced(await readBackup(resolve(from)), names);
  const { backups } = await listBackups(parent);
  const isNamed = names.length > 0;
  const wanted = selectTargets(names).filter((key) => isNamed || definitionOf(key).backup.critical);
  const whole = backups.find(({ manifest }) =>
    wanted.every((key) => manifest.databases.some((database) => database.key === key)),
  );
  const found = whole ?? (isNamed ? undefined : backups[0]);
  if (found) return refuseUnplaced(found, names);
  const what = isNamed && backups.length > 0 ? ` that holds ${wanted.join(', ')}` : '';
  throw new BackupError(
    `There is no backup in ${parent}${what}: make one with "npm run db:backup", or name its folder.`,
  );
}

/** Without `names`, refuses a backup with a database whose URL is not set, instead of leaving that database out. */
function refuseUnplaced(backup: Backup, names: readonly string[]): Backup {
  const targets: readonly string[] = databaseTargets();
  const unplaced = backup.manifest.databases
    .map(({ key }) => key)
    .filter(isDatabaseTarget)
    .find((key) => !targets.includes(key));
  if (names.length > 0 || unplaced === undefined) return backup;
  throw new ConfigurationError(
    `${backup.folder} holds ${unplaced}, and ${definitionOf(unplaced).urlVariable} is not set: set it, or name the databases.`,
  );
}

async function readBackup(folder: string): Promise<Backup> {
  const path = join(folder, manifestName);
  if (isIncomplete(basename(folder))) {
    throw new BackupError(`${folder} is what a run left that never finished: it is not a backup.`);
  }
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (!['ENOENT', 'ENOTDIR'].includes(error.code ?? '')) throw error;
    throw new BackupError(`${folder} is not a backup: it has no ${manifestName}.`);
  });
  return { folder, manifest: parseManifest(text, path) };
}

const filesOf = ({ dump, catalog }: DatabaseBackup): BackupFile[] => [dump, catalog];

async function checkSizes({ folder, manifest }: Backup): Promise<void> {
  for (const file of manifest.databases.flatMap(filesOf)) await checkSize(folder, file);
}

async function checkSize(folder: string, { name, bytes }: BackupFile): Promise<void> {
  const path = join(folder, name);
  const found = await stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
  if (found === undefined) throw new BackupError(`${path} is missing: the backup is damaged.`);
  if (found !== bytes) {
    throw new BackupError(
      `${path} has ${found} bytes, its manifest says ${bytes}: the backup is damaged, take another one.`,
    );
  }
}

/** @throws BackupError if a file of this database differs from the manifest in size or SHA-256. */
export async function checkFiles(folder: string, database: DatabaseBackup): Promise<void> {
  for (const file of filesOf(database)) {
    await checkSize(folder, file);
    const path = join(folder, file.name);
    if ((await sha256(path)) !== file.sha256) {
      throw new BackupError(
        `${path} is not what was written (its SHA-256 differs): the backup is damaged, take another one.`,
      );
    }
  }
}

export async function readCatalogLines(folder: string, { catalog }: DatabaseBackup): Promise<string[]> {
  return v.parse(v.array(v.string()), JSON.parse(await readFile(join(folder, catalog.name), 'utf8')));
}

export async function describeFile(folder: string, name: string): Promise<BackupFile> {
  const path = join(folder, name);
  return { name, bytes: (await stat(path)).size, sha256: await sha256(path) };
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}
