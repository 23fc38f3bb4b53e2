// Memory during an import. The CSV is generated as a stream, so that only the import can use more memory.
import type { Pool } from '../../src/pool.ts';
import { locationColumns } from '../../src/tracking/columns.ts';
import { importLocations } from '../../src/tracking/index.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { benchUuid } from './rows.ts';
import { scratchName } from './scratch.ts';
import { prepareTracking } from './tracking.ts';

export async function benchImport({ url, rows }: { url?: string; rows: number }): Promise<void> {
  const samples: { loaded: number; rss: number }[] = [];
  const measure = async (db: Pool) => {
    console.log(`${await prepareTracking(db)}\n`);
    const begin = performance.now();
    const { loaded } = await importLocations(
      db,
      { format: 'csv', stream: csv(rows) },
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

/** 1,000 devices, a point every 10 seconds or less, over 29 days up to now. */
async function* csv(rows: number): AsyncGenerator<string> {
  const devices = Array.from(
    { length: 1_000 },
    (_, number) => `${benchUuid('device', number)},${benchUuid('user', number)}`,
  );
  const step = Math.min(10_000, (29 * 86_400_000) / (rows / devices.length));
  const begin = Date.now() - step * (rows / devices.length) - 60_000;
  yield `${locationColumns.map(({ name }) => name).join(',')}\n`;
  for (let made = 0; made < rows; ) {
    let text = '';
    for (let line = 0; line < 1_000 && made < rows; line += 1) {
      const time = new Date(begin + Math.floor(made / devices.length) * step).toISOString();
      text += `${time},${devices[made % devices.length]},mextrack,-34.6${made % 1_000},-58.3${made % 777},5.25,20.5,${made % 90}.5,${made % 360},\n`;
      made += 1;
    }
    yield text;
  }
}
