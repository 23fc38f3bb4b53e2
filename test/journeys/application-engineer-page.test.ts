// The README's "How an app logs a user in and stays in its own room", run as it stands, as the roles that it names.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { assignRole, createUser } from '../../src/auth/index.ts';
import { createDatabasePool } from '../../src/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { recordLocation } from '../../src/tracking/index.ts';
import { ArrangedServer, point } from '../support/access.ts';
import { failure } from '../support/failure.ts';

interface Page {
  logIn(
    email: string,
    password: string,
    ipAddress: string,
  ): Promise<{ ok: boolean; access: string; refresh: string }>;
  refreshLogin(token: string): Promise<{ access: string; refresh: string }>;
  logOut(token: string): Promise<number>;
  whoAsks(token: string): Promise<string | undefined>;
  addVehicle(userId: string, name: string, deviceId: string): Promise<{ userId: string } | undefined>;
  trail(deviceId: string): Promise<{ appSource: string }[]>;
  close(): Promise<unknown>;
}

const server = new ArrangedServer();
const folder = mkdtempSync(join(tmpdir(), 'atriz-readme-page-'));
let page: Page;

beforeAll(async () => {
  await server.arrange(['core', 'tracking', 'mextrack']);
  vi.stubEnv('AUTH_DATABASE_URL', server.urlAs('core', 'atriz_auth'));
  vi.stubEnv('SHARED_DATABASE_URL', server.urlAs('core', 'mextrack_app'));
  vi.stubEnv('MEXTRACK_DATABASE_URL', server.urlAs('mextrack', 'mextrack_app'));
  vi.stubEnv('TRACKING_DATABASE_URL', server.urlAs('tracking', 'mextrack_app'));
  page = (await import(writePage())) as Page;
});

afterAll(async () => {
  await page?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The block under the heading, with the package's sources in the place of the package. */
function writePage(): string {
  const root = packageRoot();
  const section =
    readFileSync(join(root, 'README.md'), 'utf8').split('### How an app logs a user in')[1] ?? '';
  const code = /```ts\n(.*?)```/s.exec(section)?.[1] ?? '';
  const sources = code
    .replace(/'@atriz\/database\/schema\/(\w+)'/g, (_, name) => `'${join(root, 'schema', `${name}.ts`)}'`)
    .replace(/'@atriz\/database\/(\w+)'/g, (_, name) => `'${join(root, 'src', name, 'index.ts')}'`)
    .replace(/'@atriz\/database'/g, `'${join(root, 'src', 'index.ts')}'`);
  const path = join(folder, 'page.ts');
  writeFileSync(path, sources);
  return path;
}

test('the page works: log in, ask, refresh, log out, and a vehicle with its trail', async () => {
  const core = server.superuser('core');
  const { id } = await createUser(core, { email: 'ada@example.com', password: 'first', name: 'Ada' });
  await core.query("INSERT INTO roles (name) VALUES ('driver')");
  await assignRole(core, id, 'driver');

  const login = await page.logIn('Ada@Example.com', 'first', '192.0.2.1');
  expect([login.ok, await page.whoAsks(login.access)]).toEqual([true, id]);
  expect(await page.logIn('ada@example.com', 'wrong', '192.0.2.1')).toEqual({
    ok: false,
    reason: 'credentials',
  });
  const second = await page.refreshLogin(login.refresh);
  expect(await page.whoAsks(second.access)).toBe(id);
  await page.logOut(second.refresh);
  expect(await page.whoAsks(second.access)).toBeUndefined();

  const deviceId = randomUUID();
  expect(await page.addVehicle(id, 'Van 7', deviceId)).toMatchObject({ userId: id });
  expect(String(await failure(page.addVehicle(randomUUID(), 'Van 8', deviceId)))).toContain('does not exist');
  for (const source of ['mextrack', 'pshop'] as const) {
    await recordLocation(server.superuser('tracking'), point(source, { deviceId }));
  }
  expect((await page.trail(deviceId)).map(({ appSource }) => appSource)).toEqual(['mextrack']);
});

test('the room is its own: no secrets of core, no other database', async () => {
  await using core = createDatabasePool({ connectionString: server.urlAs('core', 'mextrack_app'), max: 1 });
  await core.query('SELECT id, email FROM users');
  for (const secret of [
    'SELECT password_hash FROM users',
    'SELECT * FROM users',
    'SELECT token_hash FROM auth_tokens',
  ]) {
    expect(await failure(core.query(secret))).toMatchObject({ code: '42501' });
  }
  await using foreign = createDatabasePool({
    connectionString: server.urlAs('mextrack', 'pshop_app'),
    max: 1,
  });
  expect(String(await failure(foreign.query('SELECT 1')))).toContain('may not connect');
});
