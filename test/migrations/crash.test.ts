// kill -9 in the middle of a migration, then a plain rerun: the same database as if nothing had happened.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { readCatalog } from '../../scripts/catalog/catalog.ts';
import { createDatabasePool } from '../../src/index.ts';
import { migrate } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';
import { programPath } from '../support/cli.ts';
import { emptyDatabase, openSessionPool } from '../support/database.ts';
import { emptyFolder, type Folder } from '../support/migrations.ts';

/** More of them on demand: KILLS=20 npx vitest run test/migrations/crash.test.ts */
const kills = Number(process.env.KILLS ?? 4);
const steps = 30;

/** Thirty steps of about 15 ms each, in one migration. */
function thirtySteps(transaction: boolean): Folder {
  const statements = Array.from({ length: steps }, (_, index) => {
    if (!transaction && index % 5 === 4) return `CREATE INDEX CONCURRENTLY i${index} ON t${index - 1} (id);`;
    return `CREATE TABLE t${index} AS SELECT 1 AS id FROM pg_sleep(0.015);`;
  });
  const head = transaction ? '' : '-- transaction: none\n';
  return emptyFolder().add('0000_steps', head + statements.join('\n--> statement-breakpoint\n'));
}

async function migrateAndKill(url: string, folder: Folder, after: number): Promise<void> {
  const child = spawn(process.execPath, [programPath('migrate-once'), url, folder.path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  await sleep(after);
  child.kill('SIGKILL');
  await exited;
}

describe.each([
  ['in a transaction', true],
  ['outside of a transaction', false],
])('%s', (_, transaction) => {
  test(`${kills} kills at random moments, each followed by a plain rerun`, async () => {
    const folder = thirtySteps(transaction);
    const undisturbed = openSessionPool('atriz', await emptyDatabase('atriz'));
    await migrate(undisturbed, 'atriz', { folder: folder.path });
    const wanted = await readCatalog(undisturbed);
    expect(wanted.length).toBeGreaterThan(steps);
    for (let kill = 0; kill < kills; kill += 1) {
      const url = await emptyDatabase('atriz');
      await migrateAndKill(url, folder, Math.random() * steps * 18);
      await using pool = createDatabasePool({ connectionString: url }) as Pool;
      await migrate(pool, 'atriz', { folder: folder.path });
      expect(await readCatalog(pool)).toEqual(wanted);
    }
  });
});
