// Benchmark of migrations: compares one run of our command line with one run of drizzle-kit per database.
import { childEnvironment } from '../../src/config.ts';
import { type DatabaseKey, databaseKeys, definitionOf } from '../../src/databases.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { urlSettings } from '../../src/targets.ts';
import { printTable } from '../cli/output.ts';
import { withMaintenance } from '../cli/pools.ts';
import { kitArguments } from '../drizzle-kit/process.ts';
import { buildCommandLine, run, runCommandLine, type Scratch, withScratchDatabases } from './scratch.ts';
import { median, timed } from './timing.ts';

export async function benchMigrate(rounds: number): Promise<void> {
  const keys = await possibleKeys();
  const skipped = databaseKeys.filter((key) => !keys.includes(key));
  if (skipped.length > 0) console.log(`Without ${skipped.join(', ')}: its server offers no TimescaleDB.\n`);
  await buildCommandLine();
  const times = {
    ours: { empty: [] as number[], again: [] as number[] },
    kit: { empty: [] as number[], again: [] as number[] },
  };
  for (let round = 0; round < rounds; round += 1) {
    for (const [who, migrate] of [
      ['ours', ours],
      ['kit', kit],
    ] as const) {
      await withScratchDatabases(keys, async (scratch) => {
        await open(scratch);
        times[who].empty.push(await timed(() => migrate(scratch)));
        times[who].again.push(await timed(() => migrate(scratch)));
      });
    }
  }
  const row = (what: string, mine: number[], theirs: number[]) => {
    const [one, other] = [median(mine), median(theirs)];
    return [what, `${Math.round(one)} ms`, `${Math.round(other)} ms`, `1 : ${(other / one).toFixed(1)}`];
  };
  printTable(
    [
      `${keys.length} databases, median of ${rounds}`,
      'migrate',
      `${keys.length} × drizzle-kit migrate`,
      'ratio',
    ],
    [
      row('from empty', times.ours.empty, times.kit.empty),
      row('nothing to do', times.ours.again, times.kit.again),
    ],
  );
}

async function possibleKeys(): Promise<DatabaseKey[]> {
  const possible: DatabaseKey[] = [];
  for (const key of databaseKeys) {
    const { rows } = await withMaintenance(key, (pool) =>
      pool.query<{ offered: boolean }>(
        'SELECT $1::text[] <@ (SELECT array_agg(name::text) FROM pg_available_extensions) AS offered',
        [definitionOf(key).extensions],
      ),
    );
    if (rows[0]?.offered) possible.push(key);
  }
  return possible;
}

/** Connects before the measurement, because the embedded server opens a database at its first connection. */
async function open(scratch: readonly Scratch[]): Promise<void> {
  for (const { url } of scratch) {
    await using pool = createDatabasePool({ connectionString: url });
    await pool.query('SELECT 1');
  }
}

const ours = (scratch: readonly Scratch[]): Promise<void> => runCommandLine(scratch, 'migrate');

async function kit(scratch: readonly Scratch[]): Promise<void> {
  for (const { key } of scratch) {
    await run(process.execPath, kitArguments(key, 'migrate'), {
      cwd: packageRoot(),
      env: childEnvironment({ ...urlSettings(scratch), APP: key }),
    });
  }
}
