// Benchmark of GPS points: compares the library with Drizzle, bare postgres.js and psql on the same rows.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Pool } from '../../src/pool.ts';
import { readTimescale } from '../../src/timescale/catalog.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { runPolicies } from '../simulation/jobs.ts';
import { barChart, writeFigures } from './chart.ts';
import { fleetRows } from './rows.ts';
import { type TrackingScratch, withScratchTracking } from './scratch.ts';
import { type Measure, queryNumber } from './timing.ts';
import { benchReads } from './tracking-reads.ts';
import { benchWrites } from './tracking-writes.ts';

export interface TrackingBenchOptions {
  url?: string;
  rows: number;
  rounds: number;
  out?: string;
}

export async function benchTracking({
  url: server,
  rows,
  rounds,
  out = '.',
}: TrackingBenchOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-bench-'));
  const measure = async ({ db, url, description }: TrackingScratch) => {
    console.log(`${description}\n`);
    const events = fleetRows({ rows, devices: 1_000 });
    const writes = await benchWrites(db, url, events, rounds, folder);
    print('Writing, median', writes);
    const reads = await benchReads(db, rounds, Math.max(10, Math.min(1_000, Math.round(rows / 200))));
    print('Reading, median', reads);
    const compression = await benchCompression(db);
    if (compression) console.log(compression);
    const bars = writes.map(({ what, value }) => ({ label: what, value }));
    const chart = barChart('Rows per second', bars);
    writeFigures('tracking', out, { description, rows, writes, reads }, chart);
  };
  try {
    await withScratchTracking('tracking', server, measure);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function benchCompression(db: Pool): Promise<string | undefined> {
  if (!(await readTimescale(db))) return undefined;
  const size = () => queryNumber(db, "SELECT hypertable_size('location_events')");
  const before = await size();
  await runPolicies(db, ['compression']);
  const after = await size();
  return `Compression: ${formatBytes(before)} became ${formatBytes(after)}, what is younger than 7 days included.\n`;
}

function print(title: string, measures: readonly Measure[]): void {
  const among = (range: Measure['range']) =>
    range ? ` (${range.map((value) => value.toFixed(2)).join(' to ')})` : '';
  const figure = ({ value, range, unit }: Measure) =>
    unit === 'ms' ? `${value.toFixed(2)} ms${among(range)}` : `${formatCount(Math.round(value))} rows/s`;
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
