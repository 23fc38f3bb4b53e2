// The package as its users get it: packed, installed into an empty strict project, imported, run.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { run } from '../support/cli.ts';
import { migratedDatabase } from '../support/database.ts';

const folder = mkdtempSync(join(tmpdir(), 'atriz-consumer-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const consumer = `
import { subscribe } from 'node:diagnostics_channel';
import {
  AtrizDatabaseError,
  createDatabasePool,
  type DatabaseKey,
  databaseKeys,
  type Pool,
  type PoolStats,
  type QueryMessage,
  type SeedFunction,
  withTransaction,
} from '@atriz/database';
import { assignRole, hashPassword, verifyPassword } from '@atriz/database/auth';
import { getMigrationStatus, migrate } from '@atriz/database/migrations';
import { requireUser } from '@atriz/database/references';
import * as atriz from '@atriz/database/schema/atriz';
import { users, type User } from '@atriz/database/schema/core';
import * as mextrack from '@atriz/database/schema/mextrack';
import * as pshop from '@atriz/database/schema/pshop';
import { locationHourly } from '@atriz/database/schema/tracking';
import { getHourlyStats, recordLocations } from '@atriz/database/tracking';

const seed: SeedFunction = async (pool) => {
  await pool.query('SELECT 1');
};
const slow: QueryMessage[] = [];
subscribe('@atriz/database:query', (message) => void slow.push(message as QueryMessage));
const texts: string[] = [];
const logger = { logQuery: (text: string) => void texts.push(text) };
const db = createDatabasePool({ key: 'core', connectionString: process.env.CONSUMER_URL, logger, casing: 'snake_case' });
await seed(db.pool);
const any: readonly Pool[] = databaseKeys.map((key: DatabaseKey) =>
  createDatabasePool({ key, connectionString: process.env.CONSUMER_URL }),
);
// @ts-expect-error a connection for session locks is not for applications
db.dedicated;
const older: Pool = createDatabasePool({ database: 'core', connectionString: process.env.CONSUMER_URL });
const failureCode = async (work: Promise<unknown>) =>
  work.then(() => '', (error: unknown) => (error instanceof AtrizDatabaseError ? error.code : String(error)));
const user: User = await withTransaction(db, async (transaction) => {
  const [row] = await transaction.orm
    .insert(users)
    .values({ email: 'pack@example.com', passwordHash: await hashPassword('secret', 10), name: 'Pack' })
    .returning();
  if (!row) throw new Error('no row');
  return row;
});
const found = await db.orm.query.users.findFirst({ with: { userRoles: true } });
// @ts-expect-error the row type knows its columns
found?.noSuchColumn;
const asked = await db.orm.transaction((tx) => requireUser(tx, user.id));
const refused = await failureCode(db.orm.transaction((tx) => assignRole(tx, user.id, 'no such role')));
const stats: PoolStats = db.stats;
const { pending } = await getMigrationStatus(db, 'core');
console.log(
  JSON.stringify({
    databases: databaseKeys.length,
    user: (await requireUser(db, user.id)) === found?.id && asked === user.id,
    refused,
    stats,
    told: slow.some(({ database, rows }) => database === db.name && rows === 1),
    logged: texts.some((text) => text.startsWith('insert into "users"')),
    password: await verifyPassword('secret', user.passwordHash),
    pending: pending.length,
    applied: (await migrate(db, 'core')).length,
    objects: [atriz.userProfiles, mextrack.vehicles, pshop.orders, locationHourly, getHourlyStats, recordLocations].every(Boolean),
  }),
);
await Promise.all([db, older, ...any].map((pool) => pool.close()));
`;

// One import without any setting: no subpath may open a connection or read the environment.
const importsOnly = `
for (const path of ['', '/auth', '/migrations', '/references', '/tracking', '/schema/core', '/schema/tracking',
  '/schema/atriz', '/schema/mextrack', '/schema/pshop']) {
  const before = process.env.TZ;
  await import('@atriz/database' + path);
  if (process.env.TZ !== before) throw new Error(path + ' changed the environment');
}
console.log('imported', process.getActiveResourcesInfo().filter((name) => /TCP|Socket/.test(name)).length);
`;

test('npm pack, install, compile in strict mode, run; and the command line comes with it', async () => {
  const npm = (args: string[], cwd: string) => run('npm', args, { npm_config_loglevel: 'error' }, cwd);
  expect(await npm(['pack', '--pack-destination', folder], packageRoot())).toMatchObject({ code: 0 });
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '';

  const project = join(folder, 'project');
  mkdirSync(project);
  const strict = { strict: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true };
  // skipLibCheck, as "tsc --init" sets it: the types of Drizzle's other dialects need drivers that nobody installs.
  const compilerOptions = {
    ...strict,
    skipLibCheck: true,
    target: 'ES2022',
    module: 'NodeNext',
    types: ['node'],
    typeRoots: [join(packageRoot(), 'node_modules', '@types')],
    outDir: 'out',
  };
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  );
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
  writeFileSync(join(project, 'main.ts'), consumer);
  writeFileSync(join(project, 'imports.js'), importsOnly);
  const install = ['install', '--no-audit', '--no-fund', join(folder, tarball)];
  expect(await npm(install, project)).toMatchObject({ code: 0 });

  const node = (args: string[], environment: Record<string, string> = {}) =>
    run(process.execPath, args, environment, project);
  const compiler = join(packageRoot(), 'node_modules', '.bin', 'tsc');
  const tsc = (...args: string[]) => run(compiler, args, {}, project);
  // Our own declarations stand without it, so that the project compiles with and without.
  const { stdout } = await tsc('--skipLibCheck', 'false');
  expect(stdout).not.toMatch(/@atriz|^main\.ts/m);
  expect(stdout.replaceAll(/^node_modules\/drizzle-orm\/.*\n( .*\n)*/gm, '')).toBe('');
  expect(await node(['imports.js'])).toMatchObject({ code: 0, stdout: 'imported 0\n' });

  const url = await migratedDatabase('core');
  const main = await node(['out/main.js'], { CONSUMER_URL: url });
  expect(main.stderr).toBe('');
  expect(JSON.parse(main.stdout)).toEqual({
    databases: 5,
    user: true,
    refused: 'UNKNOWN_ROLE',
    stats: { inUse: 0, max: 10, waiting: 0 },
    told: true,
    logged: true,
    password: true,
    pending: 0,
    applied: 0,
    objects: true,
  });
  const status = await run(
    'npx',
    ['--no-install', 'atriz-db', 'migrate', 'core'],
    { SHARED_DATABASE_URL: url },
    project,
  );
  expect(status).toMatchObject({ code: 0, stdout: expect.stringContaining('core      nothing to do\n') });
  // As in production: without development dependencies, and without a checkout.
  const deployed = await run(
    'npx',
    ['--no-install', 'atriz-db', 'deploy', 'core', '--dry-run', '--json'],
    { SHARED_DATABASE_URL: url, NODE_ENV: 'production' },
    project,
  );
  expect(JSON.parse(deployed.stdout)).toMatchObject({ isDryRun: true, pending: {} });
  const missing = { SHARED_DATABASE_URL: new URL('/nowhere', url).href };
  const refused = await run('npx', ['--no-install', 'atriz-db', 'migrate', 'core'], missing, project);
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`Create it with "npx atriz-db create"`),
  });
  expect(refused.stderr).not.toContain('npm run');
  const seeded = await run(
    'npx',
    ['--no-install', 'atriz-db', 'seed', 'core'],
    { SHARED_DATABASE_URL: url },
    project,
  );
  expect(seeded).toMatchObject({ code: 0, stdout: expect.stringContaining('002_users.js  12 rows added') });
});
