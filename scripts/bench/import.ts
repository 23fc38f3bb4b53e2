// Measures memory during an import. Points are generated while they are read, so only the import can make memory grow.
import type { Pool } from '../../src/pool.ts';
import { importLocations, type LocationSource } from '../../src/tracking/index.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { fleetCsv, fleetPoints } from './rows.ts';
import { withScratchTracking } from './scratch.ts';

const devices = 1_000;

export async function benchImport({ url, rows }: { url?: string; rows: number }): Promise<void> {
  // Each device has a point every 10 seconds, or more often if the points would otherwise span more than 29 days.
  const fleet = { rows, devices, stepMs: Math.min(10_000, (29 * 86_400_000) / (rows / devices)) };
  await withScratchTracking('import', url, async ({ db, description }) => {
    console.log(`${description}\n`);
    const ways: [string, LocationSource][] = [
      ['CSV', { format: 'csv', stream: fleetCsv(fleet) }],
      ['points', fleetPoints(fleet)],
    ];
    const columns: string[][] = [];
    for (const [what, source] of ways) {
      columns.push(await memoryOf(db, what, source, rows));
      await db.query('TRUNCATE location_events');
    }
    printTable(
      ['points', ...ways.map(([what]) => `most memory (RSS), ${what}`)],
      Array.from({ length: 10 }, (_, tenth) => [
        formatCount((rows * (tenth + 1)) / 10),
        ...columns.map((column) => column[tenth] ?? ''),
      ]),
    );
  });
}

/** Imports `source`. @returns the highest memory use (RSS) during each tenth of the import, as text. */
async function memoryOf(db: Pool, what: string, source: LocationSource, rows: number): Promise<string[]> {
  const most = Array<number>(10).fill(0);
  const begin = performance.now();
  const { loaded } = await importLocations(db, source, {
    onProgress: (count) => {
      const tenth = Math.min(9, Math.floor((count / rows) * 10));
      most[tenth] = Math.max(most[tenth] ?? 0, process.memoryUsage.rss());
    },
  });
  const seconds = (performance.now() - begin) / 1000;
  console.log(
    `${formatCount(loaded)} points from ${what} in ${seconds.toFixed(0)} s, ${formatCount(Math.round(loaded / seconds))} a second`,
  );
  return most.map(formatBytes);
}
