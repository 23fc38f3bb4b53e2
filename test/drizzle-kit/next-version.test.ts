// Drizzle 1.0: "drizzle-kit up" of the newest candidate keeps the texts of the migrations and their order.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { databaseKeys } from '../../src/databases.ts';
import { readMigrations } from '../../src/migrations/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';

const root = mkdtempSync(join(tmpdir(), 'atriz-drizzle-next-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const start = async (program: string, ...args: string[]) =>
  (await promisify(execFile)(program, args, { cwd: root, maxBuffer: 1e8 })).stdout;

/** The newest candidate, or release, of 1.x in the registry of npm. */
async function newestVersion(): Promise<string | undefined> {
  const versions = await start('npm', 'view', 'drizzle-kit', 'versions', '--json').catch(() => '[]');
  return (JSON.parse(versions) as string[])
    .filter((version) => /^1\.\d+\.\d+(-rc\.\d+)?$/.test(version))
    .at(-1);
}

// A download of 100 MB, which no other run of the suite should wait for.
const isWanted = process.env.TEST_DRIZZLE_NEXT === '1';
const title = 'its folders, read in their order, are our migrations with the same hashes';

test.skipIf(!isWanted)(
  isWanted ? title : `${title} (skipped: TEST_DRIZZLE_NEXT is not 1)`,
  async (context) => {
    const version = await newestVersion();
    if (!version) return context.skip('the registry of npm does not answer');
    const packages = ['drizzle-kit', 'drizzle-orm'].map((name) => `${name}@${version}`);
    await start(
      'npm',
      'install',
      '--prefix',
      root,
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      ...packages,
    );
    cpSync(join(packageRoot(), 'drizzle'), join(root, 'drizzle'), { recursive: true });
    for (const key of databaseKeys) {
      const kit = join(root, 'node_modules', 'drizzle-kit', 'bin.cjs');
      await start(process.execPath, kit, 'up', '--dialect', 'postgresql', '--out', `drizzle/${key}`);
      const folder = join(root, 'drizzle', key);
      const names = readdirSync(folder).filter((name) => /^\d{14}_/.test(name));
      const read = names.sort().map((name) => ({
        name: name.slice(15),
        // Its time has no milliseconds, which ours have.
        seconds: Date.parse(name.replace(/^(....)(..)(..)(..)(..)(..).*/, '$1-$2-$3T$4:$5:$6Z')) / 1000,
        hash: createHash('sha256')
          .update(readFileSync(join(folder, name, 'migration.sql')))
          .digest('hex'),
      }));
      expect(read).toEqual(
        readMigrations(key).map(({ tag, when, hash }) => ({
          name: tag.replace(/^\d+_/, ''),
          seconds: Math.floor(when / 1000),
          hash,
        })),
      );
      // It knows nothing of the down files: the commit that upgrades moves them into the folders.
      const downs = readdirSync(folder).filter((name) => name.endsWith('.down.sql'));
      expect(downs.sort()).toEqual(readMigrations(key).map(({ tag }) => `${tag}.down.sql`));
    }
  },
);
