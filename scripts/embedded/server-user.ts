// Finds or creates a system user for PostgreSQL, which refuses to run as root. Creates that user's data folders.
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedClusterError } from './errors.ts';

const run = promisify(execFile);

export interface ServerUser {
  name: string;
  uid: number;
  gid: number;
}

/**
 * Returns undefined if the current user is not root and can run the server. Otherwise returns the user `postgres`,
 * which is created if it does not exist. @throws EmbeddedClusterError `start_failed`
 */
export async function serverUser(folder: string): Promise<ServerUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const known = await lookUp('postgres');
  if (known) return known;
  try {
    await run('useradd', ['--system', '--user-group', '--no-create-home', 'postgres']).catch(async () => {
      // Alpine has only busybox's adduser.
      await run('addgroup', ['-S', 'postgres']).catch(() => undefined);
      await run('adduser', ['-S', '-D', '-H', '-G', 'postgres', 'postgres']);
    });
  } catch (error) {
    throw new EmbeddedClusterError(
      'start_failed',
      'PostgreSQL does not run as root, and the user `postgres` could not be created.',
      { folder, mend: 'run as another user, or create it: useradd --system postgres', cause: error },
    );
  }
  const created = await lookUp('postgres');
  if (created) return created;
  throw new EmbeddedClusterError('start_failed', 'The user `postgres` was created but cannot be found.', {
    folder,
    mend: 'run as a user other than root',
  });
}

/** Returns the first folder from the root down to `path` that the user may not enter. Undefined if there is none. */
export function blockingAncestor(path: string, user: ServerUser): string | undefined {
  const chain: string[] = [];
  for (let at = resolve(path); ; at = dirname(at)) {
    chain.unshift(at);
    if (dirname(at) === at) break;
  }
  return chain.find((folder) => {
    const { uid, gid, mode } = statSync(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    return (mode & bit) === 0;
  });
}

/**
 * Creates the server's data folder `path` inside `folder`, owned by the server's user.
 * @throws EmbeddedClusterError `folder_not_accessible` if that user cannot reach `folder`.
 */
export async function makeServerFolder(
  folder: string,
  path: string,
  user: ServerUser | undefined,
): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (!user) return;
  // The server only needs to enter the folder; the permissions to list and read do not change.
  await chmod(folder, (await stat(folder)).mode | 0o011);
  const blocked = blockingAncestor(folder, user);
  if (blocked !== undefined) {
    throw new EmbeddedClusterError(
      'folder_not_accessible',
      `When started by root, PostgreSQL runs as the user \`${user.name}\`, which may not enter ${blocked}.`,
      {
        folder,
        mend: `choose a folder outside of it (npm run dev -- --folder /var/lib/atriz), or: chmod o+x ${blocked}`,
      },
    );
  }
  await chown(path, user.uid, user.gid);
}

async function lookUp(name: string): Promise<ServerUser | undefined> {
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const fields = passwd
    .split('\n')
    .map((line) => line.split(':'))
    .find((entry) => entry[0] === name);
  if (!fields) return undefined;
  return { name, uid: Number(fields[2]), gid: Number(fields[3]) };
}
