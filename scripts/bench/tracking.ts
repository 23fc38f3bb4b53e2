// Benchmark of GPS points: the library, Drizzle, bare postgres.js and psql, with the same rows in the same run.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { migrate } from '../../src/migrations/index.ts';
import { createDatabasePool, type Pool } from '../../src/pool.ts';
import { readTimescale } from '../../src/timescale/catalog.ts';
import { formatBytes, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { runPolicies } from '../simulation/jobs.ts';
import { createPlainTracking } from '../simulation/plain-tracking.ts';
import { barChart } from './chart.ts';
import { fleetRows } from './rows.ts';
import { scratchName } from './scratch.ts';
import type { Measure } from './timing.ts';
import { benchReads } from './tracking-reads.ts';
import { benchWrites } from './tracking-writes.ts';

export interface TrackingBenchOptions {
  url?: string;
  rows: number;
  rounds: number;
  out?: string;
}

export async function benchTracking({ url, rows, rounds, out = '.' }: TrackingBenchOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-bench-'));
  const measure = async (_: Pool, scratch: string) => {
    await using db = createDatabasePool({ key: 'tracking', connectionString: scratch, max: 4 });
    const description = await prepareTracking(db);
    console.log(`${description}\n`);
    const events = fleetRows({ rows, devices: 1_000 });
    const writes = await benchWrites(db, scratch, events, rounds, folder);
    print('Writing, median', writes);
    const reads = await benchReads(db, rounds, Math.max(10, Math.min(1_000, Math.round(rows / 200))));
    print('Reading, median', reads);
    const compression = await benchCompression(db);
    if (compression) console.log(compression);
    writeFileSync(
      resolve(out, 'bench-tracking.json'),
      JSON.stringify({ description, rows, writes, reads }, null, 2),
    );
    writeFileSync(
      resolve(out, 'bench-tracking.svg'),
      barChart(
        'Rows per second',
        writes.map(({ what, value }) => ({ label: what, value })),
      ),
    );
    console.log(`bench-tracking.json and bench-tracking.svg are in ${resolve(out)}`);
  };
  try {
    await withScratchDatabase('tracking', scratchName('tracking'), measure, url);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Creates the tables, without hypertables if the server lacks TimescaleDB. @returns a description of the server. */
export async function prepareTracking(db: Pool): Promise<string> {
  const { rows } = await db.query<{ version: string; timescaledb: boolean }>(
    `SELECT current_setting('server_version') AS version,
      EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') AS timescaledb`,
  );
  const [server] = rows;
  if (!server?.timescaledb) {
    await createPlainTracking(db);
    return `PostgreSQL ${server?.version}, without TimescaleDB: same columns and indexes, no hypertable.`;
  }
  await migrate(db, 'tracking');
  return `PostgreSQL ${server.version} with TimescaleDB ${(await readTimescale(db))?.version}.`;
}

async function benchCompression(db: Pool): Promise<string | undefined> {
  if (!(await readTimescale(db))) return undefined;
  const size = async () =>
    Number((await db.query("SELECT hypertable_size('location_events') AS bytes")).rows[0]?.bytes);
  const before = await size();
  await runPolicies(db, ['compression']);
  const after = await size();
  return `Compression: ${formatBytes(before)} became ${formatBytes(after)}, what is younger than 7 days included.\n`;
}

function print(title: string, measures: readonly Measure[]): void {
  const among = (range: Measure['range']) =>
    range ? ` (${range.map((value) => value.toFixed(2)).join(' to ')})` : '';
  const figure = ({ value, range, unit }: Measure) =>
    unit === 'ms'
      ? `${value.toFixed(2)} ms${among(range)}`
      : `${Math.round(value).toLocaleString('en-US')} rows/s`;
  printTable(
    [title, 'figure', 'ratio', 'from', 'to', 'against'],
    measures.map((measure) => [
      measure.what,
      figure(measure),
      measure.ratio.toFixed(2),
      measure.ratioRange?.[0].toFixed(2) ?? '',
      measure.ratioRange?.[1].toFixed(2) ?? '',
      measure.against,
    ]),
  );
  console.log();
}
