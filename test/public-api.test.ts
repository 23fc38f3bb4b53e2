// What users of Drizzle and postgres.js expect of the library beside its own functions.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import { integer, pgTable } from 'drizzle-orm/pg-core';
import { drizzle } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { beforeAll, describe, expect, test } from 'vitest';
import * as core from '../schema/core.ts';
import * as auth from '../src/auth/index.ts';
import { assignRole, createUser, hasRole, issueToken, verifyToken } from '../src/auth/index.ts';
import { databases } from '../src/databases.ts';
import * as errors from '../src/errors.ts';
import * as index from '../src/index.ts';
import { ConfigurationError, createDatabasePool, type Pool, withTransaction } from '../src/index.ts';
import * as migrations from '../src/migrations/index.ts';
import { packageRoot } from '../src/migrations/package-root.ts';
import * as references from '../src/references/index.ts';
import { requireUser } from '../src/references/index.ts';
import * as tracking from '../src/tracking/index.ts';
import { migratedDatabase, openPool, serverUrl } from './support/database.ts';
import { plainTracking } from './support/tracking.ts';
import { point } from './support/tracking-points.ts';

let url: string;
let db: Pool<typeof core>;
beforeAll(async () => {
  url = await migratedDatabase('core');
  db = openPool('core', url);
});

const account = (email: string) => ({ email, name: 'Drizzle', password: 'correct horse battery' });

describe('a transaction of db.orm', () => {
  test('is taken by the functions of the package, and their writes are its own', async () => {
    await db.orm.insert(core.roles).values({ name: 'pilot' });
    const outcome = db.orm.transaction(async (tx) => {
      const [user] = await tx
        .insert(core.users)
        .values({ email: 'inside@example.com', passwordHash: 'x', name: 'Inside' })
        .returning();
      const id = user?.id ?? '';
      expect(await requireUser(tx, id)).toBe(id);
      expect(await assignRole(tx, id, 'pilot')).toBe(true);
      const { token } = await issueToken(tx, { userId: id, type: 'refresh' });
      expect(await verifyToken(tx, token, 'refresh')).toMatchObject({ userId: id });
      expect(await hasRole(tx, id, 'pilot')).toBe(true);
      await expect(requireUser(db, id)).rejects.toMatchObject({ code: 'USER_REFERENCE' });
      return tx.rollback();
    });
    await expect(outcome).rejects.toThrow('Rollback');
    expect(await db.orm.select().from(core.users).where(sql`email = 'inside@example.com'`)).toEqual([]);
  });

  test('holds savepoints of withTransaction, and Drizzle ones hold others', async () => {
    await db.orm.transaction(async (tx) => {
      const lost = withTransaction(tx, async (inner) => {
        await inner.query("UPDATE users SET name = 'lost'");
        throw new Error('undone');
      });
      await expect(lost).rejects.toThrow('undone');
      await tx.transaction(async (nested) => {
        const { id } = await createUser(nested, account('nested@example.com'));
        await assignRole(nested, id, 'pilot');
      });
    });
    const { rows } = await db.query("SELECT name FROM users WHERE email = 'nested@example.com'");
    expect(rows).toEqual([{ name: 'Drizzle' }]);
  });

  test('takes locations, and reads them back before the others do', async () => {
    const { db: tracked } = await plainTracking();
    const location = point({ deviceId: crypto.randomUUID(), userId: crypto.randomUUID(), time: new Date() });
    const { deviceId } = location;
    await tracked.orm.transaction(async (tx) => {
      await tracking.recordLocation(tx, location);
      const many = Array.from({ length: 500 }, (_, n) => ({
        ...location,
        time: new Date(Date.now() - n * 1000),
      }));
      expect(await tracking.recordLocations(tx, many)).toMatchObject({ written: 500 });
      expect(await tracking.importLocations(tx, [location])).toMatchObject({ loaded: 1 });
      expect(await tracking.getRecentLocations(tx, deviceId)).toHaveLength(502);
      expect(await tracking.getRecentLocations(tracked, deviceId)).toEqual([]);
    });
    expect(await tracking.getRecentLocations(tracked, deviceId)).toHaveLength(502);
  });

  test('of another Drizzle client is refused', async () => {
    const client = postgres(url, { max: 1 });
    try {
      const outcome = drizzle(client).transaction((tx) => requireUser(tx, crypto.randomUUID()));
      await expect(outcome).rejects.toMatchObject({
        code: 'VALIDATION',
        message: expect.stringContaining('orm'),
      });
    } finally {
      await client.end();
    }
  });
});

describe('key', () => {
  test('that is not in the registry is a mistake of the configuration', () => {
    for (const option of ['key', 'database']) {
      const options = { [option]: 'sales' } as unknown as { key: 'core' };
      expect(() => createDatabasePool(options)).toThrow(ConfigurationError);
      expect(() => createDatabasePool(options)).toThrow('key is "sales": use one of core, tracking,');
    }
    expect(() => createDatabasePool({ key: 'toString' } as unknown as { key: 'core' })).toThrow('use one of');
  });

  test('and schema follow from the name of the database in the URL, or neither does', async () => {
    for (const [key, { database }] of Object.entries(databases)) {
      await using pool = createDatabasePool({ connectionString: serverUrl('core', database) });
      expect(pool.key).toBe(key);
      expect(Object.keys(pool.orm.query)).not.toEqual([]);
    }
    await using other = createDatabasePool({ connectionString: serverUrl('core', 'postgres') });
    expect(other.key).toBeUndefined();
    expect(Object.keys(other.orm.query)).toEqual([]);
  });

  test('`database` is its older name', async () => {
    await using pool = createDatabasePool({ database: 'core', connectionString: url });
    expect(pool.key).toBe('core');
    expect(await pool.orm.query.roles.findFirst({ columns: { name: true } })).toEqual({ name: 'pilot' });
  });
});

test('logger hears of every query of orm, in transactions too', async () => {
  const heard: [string, unknown[]][] = [];
  const logger = { logQuery: (text: string, parameters: unknown[]) => void heard.push([text, parameters]) };
  const pool = openPool('core', url, { logger });
  await pool.orm.execute(sql`SELECT ${7}::int AS one`);
  await pool.orm.transaction((tx) => tx.execute(sql`SELECT 2 AS two`));
  expect(heard).toEqual([
    ['SELECT $1::int AS one', [7]],
    ['SELECT 2 AS two', []],
  ]);
});

test('casing names the columns of tables that name none', async () => {
  const readings = pgTable('readings', { tankLevel: integer() });
  await using pool = createDatabasePool({
    connectionString: url,
    schema: { readings },
    casing: 'snake_case',
  });
  await pool.query('CREATE TABLE readings (tank_level int)');
  expect(await pool.orm.insert(readings).values({ tankLevel: 3 }).returning()).toEqual([{ tankLevel: 3 }]);
  expect(await pool.orm.query.readings.findMany()).toEqual([{ tankLevel: 3 }]);
});

test('every error has a code of its own, which the documentation lists', () => {
  const exported = [index, auth, migrations, tracking, references].flatMap((module) => Object.values(module));
  const classes = new Set(exported.filter(isErrorClass));
  const codes = [...classes].map((made) => {
    const takesList = ['UserReferencesError', 'LocationsRejectedError'].includes(made.name);
    const parameters = takesList ? [[]] : ['x', { code: '08006', pending: [], edited: [], problems: [] }];
    return [made.name, (Reflect.construct(made, parameters) as errors.AtrizDatabaseError).code] as const;
  });
  expect(codes.length).toBeGreaterThan(15);
  expect(new Set(codes.map(([, code]) => code)).size).toBe(codes.length);
  const page = readFileSync(join(packageRoot(), 'docs', 'architecture.md'), 'utf8');
  for (const [name, code] of codes) {
    expect(page).toContain(`\`${name}\``);
    if (name !== 'ConnectionError') expect(page).toContain(`\`${code}\``);
  }
});

type ErrorClass = new (...parameters: never[]) => errors.AtrizDatabaseError;

const isErrorClass = (value: unknown): value is ErrorClass =>
  value === errors.AtrizDatabaseError ||
  (typeof value === 'function' && value.prototype instanceof errors.AtrizDatabaseError);
