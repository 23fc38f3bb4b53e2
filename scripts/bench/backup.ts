// Benchmark of backups of databases without extensions: our command line against sequential pg_dump.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/config.ts';
import { type DatabaseKey, databaseKeys } from '../../src/databases.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { migrate } from '../../src/migrations/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { urlSettings } from '../../src/targets.ts';
import { libpqEnvironment } from '../backup/client/environment.ts';
import { runClientProgram } from '../backup/client/run.ts';
import { installedPrograms, requirePgDump } from '../backup/client/versions.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { type Scratch, withScratchDatabases } from './scratch.ts';
import { median, timed } from './timing.ts';

/** One wide table in each database, as an application fills it. `$1` is the number of rows. */
const fillings: Partial<Record<DatabaseKey, string>> = {
  core: `INSERT INTO users (email, password_hash, name)
    SELECT 'user' || i || '@example.com', md5(i::text) || md5((i + 1)::text), 'User ' || i FROM generate_series(1, $1::int) i`,
  atriz: `INSERT INTO user_profiles (user_id, display_name, bio)
    SELECT gen_random_uuid(), 'Person ' || i, md5(i::text) || ' ' || md5((i + 1)::text) FROM generate_series(1, $1::int) i`,
  mextrack: `INSERT INTO drivers (user_id, full_name, license_number)
    SELECT gen_random_uuid(), 'Driver ' || i, md5(i::text) FROM generate_series(1, $1::int) i`,
  pshop: `INSERT INTO products (user_id, sku, name, description, price)
    SELECT gen_random_uuid(), 'sku-' || i, 'Product ' || i, md5(i::text) || md5((i + 1)::text), 1 + i % 1000 FROM generate_series(1, $1::int) i`,
};

export async function benchBackup(rounds: number, rows: number): Promise<void> {
  const keys = databaseKeys.filter((key) => fillings[key]);
  const folder = mkdtempSync(join(tmpdir(), 'atriz-bench-backup-'));
  let bytes = 0;
  const times: Record<'bare' | 'sequential' | 'parallel', number[]> = {
    bare: [],
    sequential: [],
    parallel: [],
  };
  try {
    await promisify(execFile)(join(packageRoot(), 'node_modules', '.bin', 'tsc'), [
      '-p',
      join(packageRoot(), 'tsconfig.build.json'),
    ]);
    await withScratchDatabases(keys, async (scratch) => {
      for (const one of scratch) bytes += await fill(one, rows);
      for (let round = 0; round < rounds; round += 1) {
        times.bare.push(await timed(() => bare(scratch, folder)));
        times.sequential.push(await timed(() => ours(scratch, folder, ['--jobs', '1'])));
        times.parallel.push(await timed(() => ours(scratch, folder, [])));
      }
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const row = (what: string, own: readonly number[]) => [
    what,
    `${(median(own) / 1000).toFixed(1)} s`,
    `${(median(own.map((time, round) => time / (times.bare[round] ?? Number.NaN)))).toFixed(2)} ×`,
  ];
  printTable(
    [
      `${keys.length} databases of ${formatCount(rows)} rows, ${formatBytes(bytes)}, median of ${rounds}`,
      'time',
      'against bare',
    ],
    [
      row('pg_dump -Fc, one after another', times.bare),
      row('backup --jobs 1', times.sequential),
      row('backup', times.parallel),
    ],
  );
}

/** @returns the size of the database in bytes. */
async function fill({ key, url }: Scratch, rows: number): Promise<number> {
  await using pool = createDatabasePool({ connectionString: url });
  await migrate(pool, key);
  await pool.query(fillings[key] ?? '', [rows]);
  await pool.query('VACUUM ANALYZE');
  const size = await pool.query<{ bytes: number }>(
    'SELECT pg_database_size(current_database())::float8 AS bytes',
  );
  return size.rows[0]?.bytes ?? 0;
}

async function bare(scratch: readonly Scratch[], folder: string): Promise<void> {
  const [{ url } = { url: '' }] = scratch;
  const programs = requirePgDump(await installedPrograms(), await serverOf(url));
  for (const { key, url } of scratch) {
    await runClientProgram(
      join(programs.folder, 'pg_dump'),
      ['-Fc', `--file=${join(folder, `${key}.dump`)}`],
      {
        environment: libpqEnvironment(parseDatabaseUrl(url, key)),
      },
    );
  }
}

async function serverOf(url: string) {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  const { rows } = await pool.query<{ version: string; major: number }>(
    "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major",
  );
  return { database: pool.name, version: '', major: 0, ...rows[0] };
}

async function ours(scratch: readonly Scratch[], folder: string, options: readonly string[]): Promise<void> {
  const settings = urlSettings(scratch);
  const to = join(folder, 'backups');
  const cli = join(packageRoot(), 'dist', 'scripts', 'db.js');
  await promisify(execFile)(
    process.execPath,
    [cli, 'backup', ...scratch.map(({ key }) => key), '--to', to, ...options],
    {
      env: childEnvironment(settings),
    },
  );
}
