// Benchmark of backups and drills: our command line against sequential pg_dump.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DatabaseKey, databaseKeys } from '../../src/databases.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { migrate } from '../../src/migrations/index.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { importLocations } from '../../src/tracking/index.ts';
import { withTransaction } from '../../src/transaction.ts';
import { libpqEnvironment } from '../backup/client/environment.ts';
import { runClientProgram } from '../backup/client/run.ts';
import { installedPrograms, requirePgDump } from '../backup/client/versions.ts';
import { readServer } from '../backup/contents.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { runPolicies } from '../simulation/jobs.ts';
import { fleetCsv } from './rows.ts';
import { buildCommandLine, runCommandLine, type Scratch, withScratchDatabases } from './scratch.ts';
import { median, queryNumber, spreadOf, timed } from './timing.ts';

/** Statements that fill one table in each database. `$1` is the number of rows. */
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

export interface BackupBenchOptions {
  rounds: number;
  /** Rows in each database. */
  rows: number;
  /** GPS points in tracking. If set, only tracking is measured, instead of the other databases. */
  points?: number;
}

export async function benchBackup({ rounds, rows, points }: BackupBenchOptions): Promise<void> {
  await buildCommandLine();
  if (points) {
    await compare(['tracking'], rounds, {
      fill: (pool) => fillTracking(pool, points),
      title: `${formatCount(points)} points`,
      peer: 'pg_dump -Fc',
      ways: { backup: ['backup'], 'drill: dump, restore beside, compare, drop': ['drill'] },
    });
    return;
  }
  const keys = databaseKeys.filter((key) => fillings[key]);
  await compare(keys, rounds, {
    fill: async (pool, key) => void (await pool.query(fillings[key] ?? '', [rows])),
    title: `${keys.length} databases of ${formatCount(rows)} rows`,
    peer: 'pg_dump -Fc, one after another',
    ways: { 'backup --jobs 1': ['backup', '--jobs', '1'], backup: ['backup'] },
  });
}

interface Comparison {
  readonly fill: (pool: Pool, key: DatabaseKey) => Promise<void>;
  readonly title: string;
  readonly peer: string;
  /** Label in the printed table → arguments of our command line. */
  readonly ways: Readonly<Record<string, readonly string[]>>;
}

async function compare(
  keys: readonly DatabaseKey[],
  rounds: number,
  { fill, title, peer, ways }: Comparison,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-bench-backup-'));
  const to = join(folder, 'backups');
  const times = new Map<string, number[]>();
  const measure = async (what: string, work: () => Promise<void>) => {
    times.set(what, [...(times.get(what) ?? []), await timed(work)]);
  };
  let bytes = 0;
  try {
    await withScratchDatabases(keys, async (scratch) => {
      for (const one of scratch) bytes += await prepare(one, fill);
      for (let round = 0; round < rounds; round += 1) {
        await measure(peer, () => bare(scratch, folder));
        for (const [what, [command = '', ...options]] of Object.entries(ways))
          await measure(what, () => runCommandLine(scratch, command, ['--to', to, ...options]));
      }
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  printTable(
    [`${title}, ${formatBytes(bytes)}, median of ${rounds}`, 'time', 'from', 'to', 'against bare'],
    [...times].map(([what, own]) => {
      const { median: typical, min, max } = spreadOf(own);
      const ratios = own.map((time, round) => time / (times.get(peer)?.[round] ?? Number.NaN));
      return [
        what,
        ...[typical, min, max].map((ms) => `${(ms / 1000).toFixed(1)} s`),
        `${median(ratios).toFixed(2)} ×`,
      ];
    }),
  );
}

/** Migrates and fills a database. @returns its size in bytes. */
async function prepare({ key, url }: Scratch, fill: Comparison['fill']): Promise<number> {
  await using pool = createDatabasePool({ connectionString: url });
  await migrate(pool, key);
  await fill(pool, key);
  await pool.query('VACUUM ANALYZE');
  return queryNumber(pool, 'SELECT pg_database_size(current_database())');
}

/** Imports 29 days of points of a fleet, and compresses the chunks that are old enough. */
async function fillTracking(pool: Pool, points: number): Promise<void> {
  const devices = Math.ceil(points / 10_000);
  const stepMs = (29 * 86_400_000) / (points / devices);
  await importLocations(pool, { format: 'csv', stream: fleetCsv({ rows: points, devices, stepMs }) });
  await runPolicies(pool, ['compression']);
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
  return { database: pool.name, ...(await withTransaction(pool, readServer)) };
}
