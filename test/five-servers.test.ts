// Each of the five databases on a server of its own: created, migrated, reported and used as on one.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type EmbeddedCluster, startCluster } from '../scripts/embedded/cluster.ts';
import { createUser } from '../src/auth/index.ts';
import { createDatabasePool, databaseKeys, databases } from '../src/index.ts';
import { requireUser } from '../src/references/index.ts';
import { getRecentLocations, recordLocations } from '../src/tracking/index.ts';
import { runCli } from './support/cli.ts';
import { makeDataFolder } from './support/data-folder.ts';
import { plainKeys } from './support/database.ts';
import { freePort } from './support/free-port.ts';
import { type OwnServer, startOwnServer } from './support/own-server.ts';
import { point } from './support/tracking-points.ts';

const folder = makeDataFolder('atriz-five-servers-');
const own: OwnServer[] = [];
let cluster: EmbeddedCluster;
const urls: Record<string, string> = {};

beforeAll(async () => {
  // Not the default ports, which other tests count on.
  const ports = { plain: await freePort(), timescaledb: await freePort() };
  cluster = await startCluster({ folder, durable: false, ports });
  for (const _ of plainKeys.slice(1)) own.push(await startOwnServer());
  const plain = [cluster.servers.plain, ...own.map(({ url }) => url.replace(/\/postgres$/, ''))];
  for (const key of databaseKeys) {
    const server = key === 'tracking' ? cluster.servers.timescaledb : plain.shift();
    urls[databases[key].urlVariable] = `${server}/${databases[key].database}`;
  }
});
afterAll(async () => {
  for (const server of own) await server.stop();
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('create, migrate and status over five servers, and a user who moves between them', async () => {
  expect(new Set(Object.values(urls).map((url) => new URL(url).port)).size).toBe(databaseKeys.length);
  for (const command of ['create', 'migrate']) {
    expect(await runCli([command], urls)).toMatchObject({ code: 0 });
  }
  const status = await runCli(['status', '--json'], urls);
  expect(status).toMatchObject({ code: 0 });
  const reported = (JSON.parse(status.stdout) as { key: string }[]).map(({ key }) => key);
  expect(reported).toEqual(databaseKeys);

  const open = (key: keyof typeof databases) =>
    createDatabasePool({ connectionString: urls[databases[key].urlVariable] });
  await using core = open('core');
  await using tracking = open('tracking');
  const user = await createUser(core, { email: 'five@example.com', name: 'F', password: 'a long password' });
  const event = point({ userId: await requireUser(core, user.id) });
  await recordLocations(tracking, [event]);
  expect(await getRecentLocations(tracking, event.deviceId)).toMatchObject([{ userId: user.id }]);
});
