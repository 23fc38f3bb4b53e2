// Run by erase-crash.test.ts as a process of its own: erases a person and dies at the step it is told.
import type { DatabaseKey } from '../../src/databases.ts';
import { createDatabasePool, databaseKeys, type Pool } from '../../src/index.ts';
import { eraseUser } from '../../src/references/index.ts';

const [urls = '', userId = '', fatalStep = ''] = process.argv.slice(2);
const addresses = JSON.parse(urls) as Record<DatabaseKey, string>;
const pools = Object.fromEntries(
  databaseKeys.map((key) => [key, createDatabasePool({ key: key, connectionString: addresses[key] })]),
) as unknown as Record<DatabaseKey, Pool>;
let step = 0;
await eraseUser(pools, userId, {
  graceMs: 0,
  onProgress: () => {
    step += 1;
    if (step === Number(fatalStep)) process.kill(process.pid, 'SIGKILL');
  },
});
