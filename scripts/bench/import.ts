// Memory during an import. The CSV is generated as a stream, so that only the import can use more memory.
import type { Pool } from '../../src/pool.ts';
import { importLocations } from '../../src/tracking/index.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { fleetCsv } from './rows.ts';
import { scratchName } from './scratch.ts';
import { prepareTracking } from './tracking.ts';

const devices = 1_000;

export async function benchImport({ url, rows }: { url?: string; rows: number }): Promise<void> {
  // A point every 10 seconds or less, over at most 29 days.
  const stepMs = Math.min(10_000, (29 * 86_400_000) / (rows / devices));
  const samples: { loaded: number; rss: number }[] = [];
  const measure = async (db: Pool) => {
    console.log(`${await prepareTracking(db)}\n`);
    const begin = performance.now();
    const { loaded } = await importLocations(
      db,
      { format: 'csv', stream: fleetCsv({ rows, devices, stepMs }) },
      { onProgress: (count) => samples.push({ loaded: count, rss: process.memoryUsage.rss() }) },
    );
    const seconds = (performance.now() - begin) / 1000;
    console.log(
      `${formatCount(loaded)} points in ${seconds.toFixed(0)} s, ${formatCount(Math.round(loaded / seconds))} a second`,
    );
  };
  await withScratchDatabase('tracking', scratchName('import'), measure, url);
  const tenths = Array.from({ length: 10 }, (_, tenth) => {
    const within = samples.filter(
      ({ loaded }) => loaded > (rows * tenth) / 10 && loaded <= (rows * (tenth + 1)) / 10,
    );
    return Math.max(0, ...within.map(({ rss }) => rss));
  });
  printTable(
    ['points', 'most memory (RSS)'],
    tenths.map((rss, tenth) => [formatCount((rows * (tenth + 1)) / 10), formatBytes(rss)]),
  );
}
