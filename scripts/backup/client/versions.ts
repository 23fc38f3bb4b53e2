// Finds the pg_dump and pg_restore that fit a server, among the versions that are installed.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { programFolders } from '../../../src/config.ts';
import { BackupError } from '../errors.ts';

/** One installation of PostgreSQL's client programs. */
export interface ClientPrograms {
  readonly folder: string;
  /** Such as `15.14`. */
  readonly version: string;
  readonly major: number;
}

/** Folders with one subfolder per version. Debian's /usr/bin holds only a wrapper for these. */
const versionedFolders = [
  { parent: '/usr/lib/postgresql', rest: 'bin' },
  { parent: '/usr', rest: 'bin', prefix: 'pgsql-' },
  { parent: '/opt/homebrew/opt', rest: 'bin', prefix: /^(postgresql(@|$)|libpq$)/ },
  { parent: '/usr/local/opt', rest: 'bin', prefix: /^(postgresql(@|$)|libpq$)/ },
  { parent: '/Applications/Postgres.app/Contents/Versions', rest: 'bin' },
  { parent: 'C:\\Program Files\\PostgreSQL', rest: 'bin' },
];

/** The installations in PG_BIN if it is set, else those on the PATH and in the usual places. */
export async function installedPrograms(): Promise<ClientPrograms[]> {
  const { folders, only } = programFolders();
  const places = only ? folders : [...folders, ...versionedFolders.flatMap(subfolders)];
  const found = await Promise.all([...new Set(places)].map(readVersion));
  return found.filter((programs) => programs !== undefined);
}

/**
 * Chooses the oldest pg_dump that is not older than the server: more versions of pg_restore can read the archive of an
 * older pg_dump. pg_dump 17 and newer set transaction_timeout in the archive, which servers before 17 reject.
 */
export const choosePgDump = (
  installed: readonly ClientPrograms[],
  serverMajor: number,
): ClientPrograms | undefined => choosePgRestore(installed, serverMajor, serverMajor);

/** Chooses the oldest pg_restore that can read the archive of this pg_dump and works with this server. */
export function choosePgRestore(
  installed: readonly ClientPrograms[],
  dumpMajor: number,
  serverMajor: number,
): ClientPrograms | undefined {
  const [oldest] = installed
    .filter(({ major }) => major >= dumpMajor && (major < 17 || serverMajor >= 17))
    .sort((one, other) => one.major - other.major || minor(other.version) - minor(one.version));
  return oldest;
}

const minor = (version: string) => Number(version.split('.')[1] ?? 0);

/** @throws BackupError saying what is installed, what the server needs, and how to get it. */
export function requirePgDump(
  installed: readonly ClientPrograms[],
  server: { readonly database: string; readonly version: string; readonly major: number },
): ClientPrograms {
  const chosen = choosePgDump(installed, server.major);
  if (chosen) return chosen;
  const older = installed.filter(({ major }) => major < server.major);
  const why =
    installed.length === 0
      ? 'there is no pg_dump'
      : `pg_dump ${list(installed)} is too ${older.length > 0 ? 'old' : 'new'}`;
  throw new BackupError(
    `${server.database} is on PostgreSQL ${server.version}, and for it ${why}: ${mendOf(server.major)}`,
  );
}

export const mendOf = (major: number): string =>
  `install the client programs of PostgreSQL ${major} (Debian, Ubuntu: postgresql-client-${major} from apt.postgresql.org; ` +
  `macOS: brew install postgresql@${major}), or set PG_BIN to the folder that holds them.`;

export const list = (programs: readonly ClientPrograms[]): string =>
  programs.map(({ version, folder }) => `${version} (${folder})`).join(', ');

function subfolders({ parent, rest, prefix = '' }: (typeof versionedFolders)[number]): string[] {
  if (!existsSync(parent)) return [];
  const isOne = (name: string) => (typeof prefix === 'string' ? name.startsWith(prefix) : prefix.test(name));
  return readdirSync(parent)
    .filter(isOne)
    .map((name) => join(parent, name, rest));
}

async function readVersion(folder: string): Promise<ClientPrograms | undefined> {
  const program = ['pg_dump', 'pg_dump.exe'].map((name) => join(folder, name)).find(existsSync);
  // Debian's wrapper chooses a version itself, and not always the same one.
  if (program === undefined || basename(realpathSync(program)) === 'pg_wrapper') return undefined;
  try {
    const { stdout } = await promisify(execFile)(program, ['--version']);
    const [, version = '', major = ''] = /\(PostgreSQL\) ((\d+)[.\w]*)/.exec(stdout) ?? [];
    return version === '' ? undefined : { folder, version, major: Number(major) };
  } catch {
    // Broken, or built for another machine: treat as not installed.
    return undefined;
  }
}
