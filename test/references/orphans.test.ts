// findOrphans and db:references: every column that names people, compared with core.
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { ConnectionError, createDatabasePool, type Pool, ValidationError } from '../../src/index.ts';
import { NotMigratedError } from '../../src/migrations/index.ts';
import { findOrphans, type OrphanReport } from '../../src/references/index.ts';
import { runCli } from '../support/cli.ts';
import {
  describeWith,
  emptyDatabase,
  migratedDatabase,
  openPool,
  possibleKeys,
} from '../support/database.ts';
import { addPeople, openPools, type Pools, userIdOf } from './people.ts';

const people = 3;
/** Column → [people, orphans, rows of orphans]. */
const summary = (reports: readonly OrphanReport[]) =>
  Object.fromEntries(
    reports.map(({ database, relation, users, orphans, rows }) => [
      `${database} ${relation}`,
      [users, orphans, rows],
    ]),
  );
const remove = (core: Pool, person: number) =>
  core.query('DELETE FROM users WHERE id = $1', [userIdOf(person)]);

describe('the applications', () => {
  const keys = ['atriz', 'mextrack', 'pshop'] as const;
  let pools: Pick<Pools, 'core' | (typeof keys)[number]>;
  let environment: Record<string, string>;
  const cli = (...args: string[]) => runCli(['references', ...args], environment);

  beforeAll(async () => {
    const entries = await Promise.all(
      (['core', ...keys] as const).map(async (key) => [key, await migratedDatabase(key)] as const),
    );
    environment = Object.fromEntries(entries.map(([key, url]) => [definitionOf(key).urlVariable, url]));
    pools = Object.fromEntries(
      entries.map(([key, url]) => [key, openPool(key, url)]),
    ) as unknown as typeof pools;
    await addPeople(pools, people);
  });

  test('nobody is an orphan: exit 0, inactive users are none, erased ones are nobody', async () => {
    await pools.core.query('UPDATE users SET is_active = false WHERE id = $1', [userIdOf(1)]);
    await pools.pshop.query(
      "INSERT INTO orders (user_id, subtotal, total) VALUES ('00000000-0000-0000-0000-000000000000', 1, 1)",
    );
    const order = '(SELECT id FROM orders LIMIT 1)';
    await pools.pshop.query(
      `INSERT INTO deliveries (order_id, address) VALUES (${order}, 'nobody took it yet')`,
    );
    const { code, stdout, stderr } = await cli(...keys, '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(summary(JSON.parse(stdout) as OrphanReport[])).toEqual({
      'atriz user_profiles': [people + 1, 0, 0],
      'atriz user_preferences': [people + 1, 0, 0],
      'mextrack vehicles': [people + 1, 0, 0],
      'mextrack drivers': [people + 1, 0, 0],
      'pshop products': [people + 1, 0, 0],
      'pshop orders': [people + 1, 0, 0],
      'pshop deliveries': [people + 1, 0, 0],
    });
  });

  test('finds orphans in every column, with their rows and samples: exit 3', async () => {
    await remove(pools.core, 2);
    await remove(pools.core, 3);
    await pools.pshop.query(
      'INSERT INTO orders (user_id, subtotal, total) SELECT $1, 1, 1 FROM generate_series(1, 4)',
      [userIdOf(2)],
    );
    const { code, stdout } = await cli(...keys, '--json', '--samples', '1');
    expect(code).toBe(3);
    const reports = JSON.parse(stdout) as OrphanReport[];
    expect(summary(reports)).toMatchObject({
      'atriz user_profiles': [people + 1, 2, 2],
      'mextrack drivers': [people + 1, 2, 2],
      'pshop orders': [people + 1, 2, 6],
      // The bystander took the deliveries of the others, and they took hers.
      'pshop deliveries': [people + 1, 2, 2],
    });
    for (const { samples } of reports) expect(samples).toHaveLength(1);
    const table = await cli(...keys);
    expect(table).toMatchObject({ code: 3, stderr: '' });
    expect(table.stdout).toMatch(/pshop +orders\.user_id +4 +2 +6\n/);
    expect(table.stdout).toContain(`${userIdOf(2)}  5 rows`);
    expect(await cli('mextrack')).toMatchObject({ code: 3 });
    expect(await cli('core')).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing to check') });
  });

  test('counts across batches, with and without an index, and takes the samples of the first', async () => {
    const core = openPool('core', await migratedDatabase('core'));
    const atriz = openPool('atriz', await migratedDatabase('atriz'));
    const id = "('0e000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid";
    await core.query(
      `INSERT INTO users (id, email, password_hash, name) SELECT ${id}, n || '@example.com', 'x', 'P' FROM generate_series(1, 25000) n WHERE n % 5000 <> 0`,
    );
    await atriz.query(`INSERT INTO user_profiles (user_id) SELECT ${id} FROM generate_series(1, 25000) n`);
    await atriz.query(
      `INSERT INTO user_preferences (user_id, key, value) SELECT ${id}, key, '1' FROM generate_series(1, 25000) n, unnest(ARRAY['a', 'b']) key`,
    );
    await atriz.query('ALTER TABLE user_preferences DROP CONSTRAINT user_preferences_user_id_key_key');
    const steps: number[] = [];
    const reports = await findOrphans(core, atriz, {
      samples: 2,
      onProgress: ({ users }) => steps.push(users),
    });
    expect(summary(reports)).toEqual({
      'atriz user_profiles': [25_000, 5, 5],
      'atriz user_preferences': [25_000, 5, 10],
    });
    expect(steps).toEqual([10_000, 20_000, 25_000, 10_000, 20_000, 25_000]);
    for (const { samples, relation } of reports) {
      expect(samples).toHaveLength(2);
      expect(samples[0]?.rows).toBe(relation === 'user_profiles' ? 1 : 2);
    }
  });

  test('names the database that is missing, unreachable or not migrated', async () => {
    const { core, pshop } = pools;
    const empty = openPool('pshop', await emptyDatabase('pshop'));
    await expect(findOrphans(core, empty)).rejects.toThrow(NotMigratedError);
    await expect(findOrphans(empty, pshop)).rejects.toThrow(/^core is not migrated/);
    await using unreachable = createDatabasePool({ connectionString: 'postgresql://u@127.0.0.1:1/pshop_db' });
    await expect(findOrphans(core, unreachable)).rejects.toThrow(ConnectionError);
    await using nameless = createDatabasePool({ connectionString: environment.PSHOP_DATABASE_URL ?? '' });
    await expect(findOrphans(core, nameless)).rejects.toThrow(ValidationError);
    await expect(findOrphans(core, pshop, { samples: -1 })).rejects.toThrow(ValidationError);
    const { PSHOP_DATABASE_URL: _, ...without } = environment;
    const missing = await runCli(['references', 'pshop'], without);
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining('set PSHOP_DATABASE_URL') });
    const lost = await runCli(['references'], {
      ...environment,
      TRACKING_DATABASE_URL: 'postgresql://u:s3cret@127.0.0.1:1/t',
    });
    expect(lost).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('t at 127.0.0.1:1: no server answers'),
    });
    expect(await cli('nowhere')).toMatchObject({ code: 2 });
    expect(await cli('pshop', '--samples', 'x')).toMatchObject({ code: 2 });
  });
});

describeWith(['timescaledb'], 'tracking', () => {
  test('finds orphans among raw points, compressed or not, and among hours whose points are gone', async () => {
    const { pools, urls } = await openPools();
    await addPeople(pools, people);
    expect(summary(await findOrphans(pools.core, pools.tracking))).toEqual({
      'tracking location_events': [people + 1, 0, 0],
      'tracking location_hourly': [people + 1, 0, 0],
    });
    await remove(pools.core, 2);
    await pools.tracking.query(
      `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude) VALUES (now(), $1, $2, 'pshop', 1, 2)`,
      [randomUUID(), userIdOf(77)],
    );
    await pools.tracking.query("SELECT drop_chunks('location_events', older_than => interval '7 days')");
    const environment = Object.fromEntries(
      possibleKeys().map((key: DatabaseKey) => [definitionOf(key).urlVariable, urls[key]]),
    );
    const { code, stdout } = await runCli(['references', '--json'], environment);
    expect(code).toBe(3);
    expect(summary(JSON.parse(stdout) as OrphanReport[])).toMatchObject({
      'tracking location_events': [people + 2, 2, 4],
      'tracking location_hourly': [people + 1, 1, 3],
      'pshop orders': [people + 1, 1, 1],
    });
  });
});
