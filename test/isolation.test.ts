// What is in the folder of the project reaches neither tests nor the programs that they start.
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { databaseKeys, definitionOf } from '../src/databases.ts';
import { packageRoot } from '../src/migrations/package-root.ts';
import { run } from './support/cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'atriz-isolation-'));
let touched = 0;
const forbidden = createServer((socket) => {
  touched += 1;
  socket.destroy();
});

beforeAll(async () => {
  for (const part of [
    'package.json',
    'tsconfig.json',
    'schema',
    'src',
    'scripts',
    'drizzle',
    'test/support',
  ]) {
    cpSync(join(packageRoot(), part), join(folder, part), { recursive: true });
  }
  symlinkSync(join(packageRoot(), 'node_modules'), join(folder, 'node_modules'));
  await new Promise<void>((resolve) => forbidden.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  forbidden.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a .env, a cluster and variables that name a server leave it untouched', async () => {
  const { port } = forbidden.address() as { port: number };
  const server = `postgresql://postgres:postgres@127.0.0.1:${port}`;
  const urls = databaseKeys.map((key) => [
    definitionOf(key).urlVariable,
    `${server}/${definitionOf(key).database}`,
  ]);
  writeFileSync(join(folder, '.env'), urls.map((pair) => pair.join('=')).join('\n'));
  mkdirSync(join(folder, '.atriz'));
  const cluster = { pid: process.pid, servers: { plain: server, timescaledb: server } };
  writeFileSync(join(folder, '.atriz', 'cluster.json'), JSON.stringify(cluster));
  // Commands that would destroy something, as a test runs them whose own variables are missing.
  writeFileSync(
    join(folder, 'test', 'inner.test.ts'),
    `import { expect, test } from 'vitest';
     import { databaseUrl } from '../src/config.ts';
     import { runCli, runCliProcess } from './support/cli.ts';
     const erase = ['erase-user', '0a000000-0000-4000-8000-000000000003', '--yes'];
     test('in programs', async () => {
       for (const ended of [
         runCli(erase, {}), runCliProcess(['clean', '--yes'], {}),
       ]) {
         expect(await ended).toMatchObject({ code: 2, stderr: expect.stringContaining('No setting says where') });
       }
     });
     test('in the process of the tests', () => {
       expect(() => databaseUrl('core')).toThrow('No setting says where');
     });`,
  );
  writeFileSync(
    join(folder, 'inner.config.ts'),
    `export default { test: { include: ['test/inner.test.ts'], setupFiles: ['test/support/setup.ts'], testTimeout: 30_000 } };`,
  );
  const vitest = join(folder, 'node_modules', 'vitest', 'vitest.mjs');
  const { code, stdout, stderr } = await run(
    process.execPath,
    [vitest, 'run', '--config', 'inner.config.ts'],
    { NO_COLOR: '1', SHARED_DATABASE_URL: `${server}/atriz_core`, PGHOST: '127.0.0.1', PGPORT: String(port) },
    folder,
  );
  expect(stdout + stderr).toMatch(/Tests\s+2 passed/);
  expect({ code, touched }).toEqual({ code: 0, touched: 0 });
});
