// Databases that a command creates and drops.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { dropDatabase } from '../../scripts/cli/pools.ts';
import { maintain, openPool, serverUrl, uniqueName, uniqueRolePrefix } from '../support/database.ts';

test('a role drops its database though a session that it may not end, such as a background worker, visits it', async () => {
  const role = `${uniqueRolePrefix()}owner`;
  const name = uniqueName('core');
  await maintain('core', `CREATE ROLE "${role}" LOGIN CREATEDB PASSWORD 'x'`);
  const url = new URL(serverUrl('core', 'postgres'));
  [url.username, url.password] = [role, 'x'];
  const maintenance = openPool('core', url.href, { max: 1 });
  await maintenance.query(`CREATE DATABASE "${name}" TEMPLATE template0`);
  const visitor = openPool('core', serverUrl('core', name), { max: 1 });
  await visitor.query('SELECT 1');
  const dropped = dropDatabase(maintenance, name);
  await sleep(500);
  await visitor.close();
  await dropped;
  const { rows } = await maintenance.query('SELECT FROM pg_database WHERE datname = $1', [name]);
  expect(rows).toEqual([]);
});
