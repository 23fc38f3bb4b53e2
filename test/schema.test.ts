// The house rules of every table, and the constraints that must hold, asked of real databases.
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { authTokens, users } from '../schema/core.ts';
import { drivers, vehicleAssignments, vehicles } from '../schema/mextrack.ts';
import { deliveries, orders, products } from '../schema/pshop.ts';
import { databaseKeys } from '../src/databases.ts';
import { sqlState } from '../src/errors.ts';
import { readMigrations } from '../src/migrations/index.ts';
import { plainKeys, testPool } from './support/database.ts';

describe.each(plainKeys)('%s', async (key) => {
  const db = await testPool(key);
  const list = async (query: string) =>
    (await db.query<{ name: string }>(query)).rows.map(({ name }) => name);

  test('every table has an id, both timestamps, their trigger and a comment', async () => {
    const tables = await list(
      "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1",
    );
    expect(tables.length).toBeGreaterThan(0);
    const incomplete = await list(
      `SELECT c.relname AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT (
         EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indkey[0] = a.attnum
                 WHERE a.attrelid = c.oid AND a.attname = 'id' AND a.atttypid = 'uuid'::regtype)
         AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('created_at', 'updated_at')
              AND a.atttypid = 'timestamptz'::regtype AND a.attnotnull AND a.atthasdef) = 2
         AND EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'set_updated_at')
         AND obj_description(c.oid, 'pg_class') IS NOT NULL)`,
    );
    expect(incomplete).toEqual([]);
  });

  test('every timestamp has a zone, and every foreign key an index', async () => {
    expect(
      await list(
        `SELECT attrelid::regclass || '.' || attname AS name FROM pg_attribute
         WHERE atttypid = 'timestamp'::regtype AND attrelid::regclass::text !~ '^(pg_|information_schema)'`,
      ),
    ).toEqual([]);
    expect(
      await list(
        `SELECT c.conrelid::regclass || '.' || c.conname AS name FROM pg_constraint c WHERE c.contype = 'f'
           AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1] AND i.indpred IS NULL)`,
      ),
    ).toEqual([]);
  });

  test('a change moves updated_at, an update that changes nothing does not', async () => {
    // Any table shows it: the trigger and its function are the same for all.
    await db.query('CREATE TABLE probe (id int, updated_at timestamptz)');
    await db.query(
      `CREATE TRIGGER set_updated_at BEFORE UPDATE ON probe FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at()`,
    );
    await db.query("INSERT INTO probe VALUES (1, '2000-01-01T00:00:00Z')");
    const year = async () =>
      (await db.query('SELECT extract(year FROM updated_at)::int AS year FROM probe')).rows[0]?.year;
    await db.query('UPDATE probe SET id = 1');
    expect(await year()).toBe(2000);
    await db.query('UPDATE probe SET id = 2');
    expect(await year()).toBeGreaterThan(2000);
  });
});

test.each(databaseKeys)('every migration of %s has a file that takes it back', (key) => {
  const missing = readMigrations(key).filter(({ path }) => !existsSync(path.replace(/\.sql$/, '.down.sql')));
  expect(missing.map(({ tag }) => tag)).toEqual([]);
});

const refusal = (attempt: Promise<unknown>) => attempt.then(() => 'accepted', sqlState);
const [uniqueViolation, checkViolation, exclusionViolation, invalidText] = [
  '23505',
  '23514',
  '23P01',
  '22P02',
];

describe('core refuses', async () => {
  const { orm } = await testPool('core');
  const user = (email: string) =>
    orm.insert(users).values({ email, passwordHash: 'x', name: 'N' }).returning();

  test.each(['a@b', 'no at.example.com', 'a@b.c', 'a@exa|mple.co|m', 'a b@example.com'])(
    'the e-mail %j',
    async (email) => {
      expect(await refusal(user(email))).toBe(checkViolation);
    },
  );

  test('an upper-case e-mail, and the same e-mail twice', async () => {
    expect(await refusal(user('Ada@example.com'))).toBe(checkViolation);
    await user('ada@example.com');
    expect(await refusal(user('ada@example.com'))).toBe(uniqueViolation);
  });

  test('a token that is not a SHA-256, that exists, or that is over before it begins', async () => {
    const [owner] = await user('tokens@example.com');
    const token = (tokenHash: string, expiresAt = new Date(Date.now() + 60_000)) =>
      orm.insert(authTokens).values({ userId: owner?.id ?? '', tokenType: 'refresh', tokenHash, expiresAt });
    await token('a'.repeat(64));
    expect(await refusal(token('a'.repeat(64)))).toBe(uniqueViolation);
    expect(await refusal(token('secret'))).toBe(checkViolation);
    expect(await refusal(token('b'.repeat(64), new Date(0)))).toBe(checkViolation);
  });
});

describe('mextrack refuses', async () => {
  const { orm } = await testPool('mextrack');
  const userId = '00000000-0000-4000-8000-000000000001';
  const [van, truck] = await orm
    .insert(vehicles)
    .values([
      { userId, vehicleName: 'van' },
      { userId, vehicleName: 'truck' },
    ])
    .returning();
  const [ana, bob] = await orm
    .insert(drivers)
    .values([
      { userId, fullName: 'Ana', licenseNumber: '1' },
      { userId: '00000000-0000-4000-8000-000000000002', fullName: 'Bob', licenseNumber: '2' },
    ])
    .returning();
  const assign = (vehicle: typeof van, driver: typeof ana, from: string, to?: string) =>
    orm.insert(vehicleAssignments).values({
      vehicleId: vehicle?.id ?? '',
      driverId: driver?.id ?? '',
      startsAt: new Date(from),
      endsAt: to ? new Date(to) : null,
    });

  test('a second open assignment, and any overlap, of a vehicle or of a driver', async () => {
    await assign(van, ana, '2026-01-01T08:00Z', '2026-01-01T16:00Z');
    await assign(van, bob, '2026-01-01T16:00Z');
    expect(await refusal(assign(van, ana, '2026-02-01T00:00Z'))).toMatch(/23505|23P01/);
    expect(await refusal(assign(truck, bob, '2026-02-01T00:00Z'))).toMatch(/23505|23P01/);
    expect(await refusal(assign(van, ana, '2026-01-01T15:00Z', '2026-01-01T15:30Z'))).toBe(
      exclusionViolation,
    );
    expect(await refusal(assign(truck, ana, '2026-01-01T15:00Z', '2026-01-01T17:00Z'))).toBe(
      exclusionViolation,
    );
    expect(await refusal(assign(truck, ana, '2026-01-03T00:00Z', '2026-01-02T00:00Z'))).not.toBe('accepted');
    expect(await refusal(assign(truck, ana, '2026-01-02T00:00Z', '2026-01-03T00:00Z'))).toBe('accepted');
  });

  test('a VIN with a wrong letter, and a device in two vehicles', async () => {
    const deviceId = '00000000-0000-4000-8000-00000000000d';
    const vehicle = (values: Partial<typeof vehicles.$inferInsert>) =>
      refusal(orm.insert(vehicles).values({ userId, vehicleName: 'x', ...values }));
    expect(await vehicle({ vin: 'WVWZZZ1JZXW00000O' })).toBe(checkViolation);
    expect(await vehicle({ vin: 'WVWZZZ1JZXW000001', deviceId })).toBe('accepted');
    expect(await vehicle({ deviceId })).toBe(uniqueViolation);
  });
});

describe('pshop refuses', async () => {
  const { orm, sql } = await testPool('pshop');
  const userId = '00000000-0000-4000-8000-000000000001';

  test('prices that are not positive and totals below zero', async () => {
    const product = (price: string) =>
      refusal(orm.insert(products).values({ userId, sku: price, name: 'p', price }));
    expect(await product('0')).toBe(checkViolation);
    expect(await product('-1')).toBe(checkViolation);
    expect(await product('0.01')).toBe('accepted');
    const order = (total: string) => refusal(orm.insert(orders).values({ userId, subtotal: '0', total }));
    expect(await order('-0.01')).toBe(checkViolation);
    expect(await order('0')).toBe('accepted');
  });

  test('a status that does not exist', async () => {
    const order = sql`INSERT INTO orders (user_id, subtotal, total, status) VALUES (${userId}, 1, 1, ${'lost'})`;
    expect(await refusal(order)).toBe(invalidText);
  });

  test('a delivery that nobody took but somebody brought, or that ends before it begins', async () => {
    const [order] = await orm.insert(orders).values({ userId, subtotal: '1', total: '1' }).returning();
    const delivery = (values: Partial<typeof deliveries.$inferInsert>) =>
      refusal(orm.insert(deliveries).values({ orderId: order?.id ?? '', address: 'a', ...values }));
    expect(await delivery({ status: 'delivered' })).toBe(checkViolation);
    expect(
      await delivery({ userId, status: 'delivered', pickedUpAt: new Date(2), deliveredAt: new Date(1) }),
    ).toBe(checkViolation);
    expect(await delivery({})).toBe('accepted');
  });
});
