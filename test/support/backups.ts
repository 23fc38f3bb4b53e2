// What the tests of backup, restore and drill share: folders of their own, and what must not be left.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { choosePgDump, installedPrograms } from '../../scripts/backup/client/versions.ts';
import type { Manifest } from '../../scripts/backup/library/manifest.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { afterFile } from './after-file.ts';
import { migratedDatabase, serverUrl } from './database.ts';

/** An empty folder, removed after the file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-backup-'));
  afterFile(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Everything in a folder, also what begins with a dot; nothing where it does not exist. */
export const everythingIn = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);

export const readManifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest;

export const writeManifest = (folder: string, manifest: unknown): void =>
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));

/** A folder for PG_BIN with a program of this text in it. */
export function programFolder(name: string, script: string): string {
  const folder = join(temporaryFolder(), 'bin');
  mkdirSync(folder);
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, name), 0o755);
  return folder;
}

/** The databases on a server whose names begin like this one, itself left out. */
export async function databasesBeside(key: DatabaseKey, name: string): Promise<string[]> {
  await using pool = createDatabasePool({ connectionString: serverUrl(key, 'postgres'), max: 1 });
  const { rows } = await pool.query<{ datname: string }>(
    'SELECT datname FROM pg_database WHERE starts_with(datname, $1) AND datname <> $2 ORDER BY 1',
    [`${name}_`, name],
  );
  return rows.map(({ datname }) => datname);
}

/** A migrated core whose users are wide enough that a dump takes a moment: pseudo-random text does not compress. */
export async function filledCore(): Promise<string> {
  const url = await migratedDatabase('core');
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  await pool.query(
    `INSERT INTO users (email, password_hash, name)
     SELECT 'user' || i || '@example.com', string_agg(md5((i * 50 + j)::text), ''), 'User ' || i
     FROM generate_series(1, 4000) i, generate_series(1, 40) j GROUP BY i`,
  );
  return url;
}

/** A folder for PG_BIN with the real pg_dump for a server, which runs after a few words of shell. */
export async function wrappedPgDump(url: string, before: string): Promise<string> {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  const { rows } = await pool.query<{ major: number }>(
    "SELECT current_setting('server_version_num')::int / 10000 AS major",
  );
  const programs = choosePgDump(await installedPrograms(), rows[0]?.major ?? 0);
  const real = join(programs?.folder ?? '', 'pg_dump');
  return programFolder('pg_dump', `[ "$1" = --version ] || { ${before}\n}\nexec "${real}" "$@"`);
}
