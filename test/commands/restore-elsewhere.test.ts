// A backup becomes databases on a server that has never seen them: with roles, owners, grants and jobs.
import { expect, inject, onTestFinished, test } from 'vitest';
import { createUser } from '../../src/auth/index.ts';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { createDatabasePool, getRecentLocations, recordLocations } from '../../src/index.ts';
import { requireUser } from '../../src/references/index.ts';
import { ArrangedServer, point } from '../support/access.ts';
import { temporaryFolder } from '../support/backups.ts';
import { runCli } from '../support/cli.ts';
import { describeWith, maintain, serverUrl } from '../support/database.ts';
import { doctor } from '../support/doctor.ts';
import { likeServer, startOwnServer } from '../support/own-server.ts';

// pg_dump does not work with the embedded tracking server.
const { capabilities } = inject('server');
const isNative = capabilities.includes('timescaledb') && capabilities.includes('background-workers');
const keys: DatabaseKey[] = isNative ? ['core', 'tracking', 'mextrack'] : ['core', 'mextrack'];
const nameOf = (url: string) => new URL(url).pathname.slice(1);

/** Databases in use, and their backup. */
async function usedServer() {
  const server = new ArrangedServer();
  await server.arrange(keys);
  const email = `${server.prefix}driver@example.com`;
  const { id } = await createUser(server.superuser('core'), { email, password: 'long enough', name: 'D' });
  const location = point('mextrack', { userId: id });
  if (isNative) {
    await server.as('mextrack_app', 'tracking', (pool) => recordLocations(pool, [location]));
    // As in production, where the scheduler runs them.
    await server
      .superuser('tracking')
      .query(
        'SELECT alter_job(job_id, scheduled => true) FROM timescaledb_information.jobs WHERE job_id >= 1000',
      );
  }
  const made = await server.cli('backup', ...keys, '--to', temporaryFolder(), '--json');
  expect(made.stderr).toBe('');
  const { folder } = JSON.parse(made.stdout) as { folder: string };
  return { server, folder, location };
}

/** Roles that begin so. */
async function rolesOf(url: string, prefix: string): Promise<string[]> {
  await using pool = createDatabasePool({ connectionString: url, max: 1 });
  const { rows } = await pool.query<{ name: string }>(
    'SELECT rolname AS name FROM pg_roles WHERE starts_with(rolname, $1) ORDER BY 1',
    [prefix],
  );
  return rows.map(({ name }) => name);
}

/** Everything is as the matrix says, the doctor is content, and an application goes on. */
async function expectAllBack(
  { server, location }: Awaited<ReturnType<typeof usedServer>>,
  environment: Record<string, string>,
): Promise<void> {
  const checked = await runCli(['access', 'check', ...keys], environment);
  expect(checked).toMatchObject({ code: 0, stderr: '' });
  expect(await doctor(environment, ...keys)).toEqual({ code: 0, findings: [] });
  const as = (key: DatabaseKey) => {
    const url = new URL(environment[definitionOf(key).urlVariable] ?? '');
    url.username = server.role('mextrack_app');
    url.password = 'secret-of-mextrack_app';
    return createDatabasePool({ connectionString: url.href, max: 1 });
  };
  await using core = as('core');
  expect(await requireUser(core, location.userId)).toBe(location.userId);
  if (!isNative) return;
  await using tracking = as('tracking');
  expect(await getRecentLocations(tracking, location.deviceId)).toMatchObject([{ userId: location.userId }]);
  await recordLocations(tracking, [{ ...location, time: new Date() }]);
}

describeWith(['pg_dump'], 'with pg_dump', () => {
  test('from nothing but the backups, after the machine is lost', async () => {
    const used = await usedServer();
    const { server, folder } = used;
    for (const key of keys) await maintain(key, `DROP DATABASE "${nameOf(server.url(key))}" WITH (FORCE)`);
    for (const role of await rolesOf(serverUrl('core', 'postgres'), server.prefix)) {
      await maintain('core', `DROP ROLE "${role}"`);
    }
    expect(await server.cli('restore', folder)).toMatchObject({ code: 0, stderr: '' });
    await expectAllBack(used, server.environment);
  });

  test('without the roles, where they are not wanted: all belongs to the role that restores', async () => {
    const { server, folder } = await usedServer();
    for (const key of keys) await maintain(key, `DROP DATABASE "${nameOf(server.url(key))}" WITH (FORCE)`);
    for (const role of await rolesOf(serverUrl('core', 'postgres'), server.prefix)) {
      await maintain('core', `DROP ROLE "${role}"`);
    }
    expect(await server.cli('restore', folder, '--no-roles')).toMatchObject({ code: 0, stderr: '' });
    expect(await rolesOf(serverUrl('core', 'postgres'), server.prefix)).toEqual([]);
    for (const key of keys) {
      const { rows } = await server.superuser(key).query(
        `SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class
         WHERE relnamespace IN ('public'::regnamespace, 'drizzle'::regnamespace)`,
      );
      expect(rows).toEqual([{ owner: 'postgres' }]);
    }
    if (!isNative) return;
    const tracking = server.superuser('tracking');
    const { rows } = await tracking.query('SELECT DISTINCT owner FROM timescaledb_information.jobs');
    expect(rows).toEqual([{ owner: 'postgres' }]);
  });

  test('moved to a server of its own, which has none of the roles', async ({ skip }) => {
    const like = await likeServer(serverUrl('tracking', 'postgres'));
    if (!like) return skip('the programs of the server are not on this machine');
    const used = await usedServer();
    const { server, folder } = used;
    const other = await startOwnServer(undefined, like);
    onTestFinished(() => other.stop());
    const moved = keys.map((key) => {
      const url = new URL(other.url);
      url.pathname = nameOf(server.url(key));
      return [definitionOf(key).urlVariable, url.href] as const;
    });
    const environment = { ...server.environment, ...Object.fromEntries(moved) };
    expect(await runCli(['restore', folder], environment)).toMatchObject({ code: 0, stderr: '' });
    await expectAllBack(used, environment);
  });
});
