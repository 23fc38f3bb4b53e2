// Benchmark of references: time and memory of findOrphans for many people.
import { migrate } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { findOrphans } from '../../src/references/index.ts';
import { formatBytes, formatCount, printTable } from '../cli/output.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { scratchName } from './scratch.ts';
import { spreadOf, timed } from './timing.ts';

/** Measures findOrphans on the same people in core and pshop. Every thousandth person is only in pshop. */
export async function benchReferences(people: number, rounds: number): Promise<void> {
  await withScratchDatabase('core', scratchName('references_core'), (core) =>
    withScratchDatabase('pshop', scratchName('references_pshop'), async (pshop) => {
      await migrate(core, 'core');
      await migrate(pshop, 'pshop');
      await core.query(
        `INSERT INTO users (id, email, password_hash, name)
         SELECT ${id}, 'person' || n || '@example.com', '!', 'Bench' FROM generate_series(1, $1::int) AS n
         WHERE n % 1000 <> 0`,
        [people],
      );
      await pshop.query(
        `INSERT INTO orders (user_id, subtotal, total) SELECT ${id}, 1, 1 FROM generate_series(1, $1::int) AS n`,
        [people],
      );
      for (const pool of [core, pshop]) await pool.query('VACUUM ANALYZE');
      await benchScan(core, pshop, rounds);
    }),
  );
}

// The id of person n: as random as a real id, but the same in both databases.
const id = 'md5(n::text)::uuid';

async function benchScan(core: Pool, pshop: Pool, rounds: number): Promise<void> {
  const times: number[] = [];
  const before = process.memoryUsage.rss();
  let peak = before;
  let found: string[] = [];
  for (let round = 0; round < rounds; round += 1) {
    times.push(
      await timed(async () => {
        const reports = await findOrphans(core, pshop, {
          key: 'pshop',
          onProgress: () => {
            peak = Math.max(peak, process.memoryUsage.rss());
          },
        });
        found = reports
          .filter(({ users }) => users > 0)
          .map(({ users, orphans }) => `${formatCount(users)} people, ${formatCount(orphans)} orphans`);
      }),
    );
  }
  const { median, min, max } = spreadOf(times);
  printTable(
    ['findOrphans', 'median', 'fastest', 'slowest', 'RSS before', 'highest RSS'],
    [
      [
        found.join('; '),
        ...[median, min, max].map((time) => `${(time / 1000).toFixed(1)} s`),
        formatBytes(before),
        formatBytes(peak),
      ],
    ],
  );
}
