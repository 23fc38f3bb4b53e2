// Checks whether a backup can be restored on a server, before anything is changed.
import { join } from 'node:path';
import type { Pool } from '../../../src/pool.ts';
import { runClientProgram } from '../client/run.ts';
import { type ClientPrograms, choosePgRestore, list, mendOf } from '../client/versions.ts';
import { BackupError } from '../errors.ts';
import { checkFiles } from '../library/backups.ts';
import type { DatabaseBackup } from '../library/manifest.ts';

export interface RestorableOptions {
  readonly installed: readonly ClientPrograms[];
  readonly withRoles: boolean;
  /** Roles that the server may lack, because the restore creates them. */
  readonly madeRoles?: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * Checks hashes, the archive, versions, extensions and roles.
 * @param maintenance a pool on the target's server.
 * @returns the programs to restore with.
 * @throws BackupError naming the problem and how to fix it.
 */
export async function requireRestorable(
  folder: string,
  backup: DatabaseBackup,
  maintenance: Pool,
  { installed, withRoles, madeRoles = [], signal }: RestorableOptions,
): Promise<ClientPrograms> {
  await checkFiles(folder, backup);
  const server = await readTarget(maintenance);
  if (server.major < backup.server.major) {
    throw new BackupError(
      `${backup.key} was dumped on PostgreSQL ${backup.server.version}, and the server to restore on is ${server.version}: ` +
        'an older one does not understand it. Restore on the same version or a newer one.',
    );
  }
  const programs = choosePgRestore(installed, backup.pgDump.major, server.major);
  if (!programs) {
    const found = installed.length > 0 ? `only ${list(installed)} is here` : 'there is none here';
    throw new BackupError(
      `${backup.key} was dumped by pg_dump ${backup.pgDump.version} and needs a pg_restore of that version for ` +
        `PostgreSQL ${server.version}, and ${found}: ${mendOf(backup.pgDump.major)}`,
    );
  }
  refuseExtensions(backup, server.extensions);
  const missing = backup.roles.filter((role) => !server.roles.includes(role) && !madeRoles.includes(role));
  if (withRoles && missing.length > 0) {
    throw new BackupError(
      `${backup.key}: the server has no role ${missing.join(', ')}, to which something in the backup belongs or is granted: ` +
        'create them, or take --no-roles, which leaves owners and grants out.',
    );
  }
  await checkArchive(folder, backup, programs, signal);
  return programs;
}

interface Target {
  version: string;
  major: number;
  roles: string[];
  extensions: { name: string; version: string }[];
}

async function readTarget(maintenance: Pool): Promise<Target> {
  const { rows } = await maintenance.query<Target>(
    `SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       (SELECT jsonb_agg(rolname) FROM pg_roles) AS roles,
       (SELECT jsonb_agg(jsonb_build_object('name', name, 'version', version)) FROM pg_available_extension_versions) AS extensions`,
  );
  return rows[0] as Target;
}

/** @param available every extension version that the server offers. */
export function refuseExtensions(
  backup: Pick<DatabaseBackup, 'key' | 'extensions'>,
  available: Target['extensions'],
): void {
  for (const { name, version } of backup.extensions) {
    const versions = available.filter((one) => one.name === name).map((one) => one.version);
    if (versions.length === 0) {
      throw new BackupError(
        `${backup.key} needs the extension ${name}, which the server does not offer: install it.`,
      );
    }
    // Only TimescaleDB needs the version of the backup, because the dump contains TimescaleDB's catalog.
    if (name !== 'timescaledb' || versions.includes(version)) continue;
    const offered = [...new Set(versions)].sort().join(', ');
    throw new BackupError(
      `${backup.key} was dumped with TimescaleDB ${version}, and the server offers ${offered}. The dump holds TimescaleDB's own ` +
        `catalog, which only ${version} reads: install that version beside, restore, then run ALTER EXTENSION timescaledb UPDATE.`,
    );
  }
}

// The archive contains the name of its database. A manifest with another name is refused.
async function checkArchive(
  folder: string,
  { key, database, dump }: DatabaseBackup,
  programs: ClientPrograms,
  signal: AbortSignal,
): Promise<void> {
  const path = join(folder, dump.name);
  const table = await runClientProgram(join(programs.folder, 'pg_restore'), ['--list', path], { signal });
  const [, found] = /^;\s+dbname: (.*)$/m.exec(table) ?? [];
  if (found !== database) {
    throw new BackupError(
      `${path} is a dump of ${found ?? 'an unknown database'}, and its manifest says that it is ${database}, for ${key}: it is refused.`,
    );
  }
}
