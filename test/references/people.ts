// People with rows in all five databases. Every id of person n ends in n, so that nobody gets lost.
import { type DatabaseKey, databaseKeys } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { withTransaction } from '../../src/transaction.ts';
import { migratedDatabase, openPool } from '../support/database.ts';

export type Pools = Record<DatabaseKey, Pool>;

/** One migrated database of each key. */
export async function openPools(): Promise<{ pools: Pools; urls: Record<DatabaseKey, string> }> {
  const urls = {} as Record<DatabaseKey, string>;
  const pools = {} as Pools;
  for (const key of databaseKeys) {
    urls[key] = await migratedDatabase(key);
    pools[key] = openPool(key, urls[key]);
  }
  return { pools, urls };
}

const suffix = (person: number) => String(person).padStart(12, '0');
/** The user id of a person. */
export const userIdOf = (person: number) => `0e000000-0000-4000-8000-${suffix(person)}`;

/** Deals with everybody else: sells, buys, drives and carries. Nobody erases them. */
export const bystander = 0;

/** `n` is a person; `id(kind)` an id of hers; `other(kind)` the same of the bystander. */
const rowsOf: Partial<Record<DatabaseKey, string>> = {
  core: `
    INSERT INTO roles (id, name) VALUES ('0a000000-0000-4000-8000-00000000ffff', 'driver') ON CONFLICT DO NOTHING;
    INSERT INTO users (id, email, password_hash, name)
      SELECT id('0e'), 'person' || n || '@example.com', 'x', 'Person' FROM people;
    INSERT INTO auth_tokens (id, user_id, token_type, token_hash, expires_at, ip_address)
      SELECT id('10'), id('0e'), 'refresh', lpad(n::text, 64, 'a'), now() + interval '1 day', '10.0.0.1' FROM people;
    INSERT INTO login_attempts (id, subject_type, subject, forgiven_at, expires_at, user_agent)
      SELECT id('1f'), 'account', account, now(), now() + interval '1 hour', 'her browser'
      FROM people, encode(sha256(convert_to('person' || n || '@example.com', 'UTF8')), 'hex') AS account;
    INSERT INTO login_attempts (id, subject_type, subject, account, forgiven_at, expires_at)
      SELECT id('20'), 'known_address', encode(sha256(convert_to(subject || ' 10.0.0.1', 'UTF8')), 'hex'), subject,
        now(), now() + interval '90 days' FROM people JOIN login_attempts ON login_attempts.id = id('1f');
    INSERT INTO user_roles (id, user_id, role_id)
      SELECT id('11'), id('0e'), '0a000000-0000-4000-8000-00000000ffff' FROM people;
    INSERT INTO user_metadata (id, user_id, key) SELECT id('12'), id('0e'), 'shoe size' FROM people;`,
  atriz: `
    INSERT INTO user_profiles (id, user_id, display_name) SELECT id('13'), id('0e'), 'Person' FROM people;
    INSERT INTO user_preferences (id, user_id, key, value) SELECT id('14'), id('0e'), 'theme', '1' FROM people;`,
  mextrack: `
    INSERT INTO vehicles (id, user_id, vehicle_name, license_plate, device_id)
      SELECT id('15'), id('0e'), 'Her van', 'P-' || n, id('0d') FROM people;
    INSERT INTO drivers (id, user_id, full_name, license_number) SELECT id('16'), id('0e'), 'Person', n FROM people;
    INSERT INTO vehicle_assignments (id, vehicle_id, driver_id, starts_at, ends_at, notes)
      SELECT id('17'), other('15'), id('16'), '2026-01-01T00:00Z'::timestamptz + n * interval '1 hour',
        '2026-01-01T01:00Z'::timestamptz + n * interval '1 hour', 'she drives' FROM people;
    INSERT INTO vehicle_assignments (id, vehicle_id, driver_id, starts_at, ends_at, notes)
      SELECT id('18'), id('15'), other('16'), '2026-06-01T00:00Z'::timestamptz + n * interval '1 hour',
        '2026-06-01T01:00Z'::timestamptz + n * interval '1 hour', 'her van' FROM people WHERE n > 0;`,
  pshop: `
    INSERT INTO products (id, user_id, sku, name, description, price, stock)
      SELECT id('19'), id('0e'), 'SKU', 'Coffee', 'by her', 7.5, 3 FROM people;
    INSERT INTO orders (id, user_id, subtotal, total) SELECT id('1a'), id('0e'), 15, 15 FROM people;
    INSERT INTO order_items (id, order_id, product_id, quantity, unit_price)
      SELECT id('1b'), id('1a'), other('19'), 2, 7.5 FROM people;
    INSERT INTO order_items (id, order_id, product_id, quantity, unit_price)
      SELECT id('1e'), other('1a'), id('19'), 1, 7.5 FROM people WHERE n > 0;
    INSERT INTO deliveries (id, order_id, user_id, device_id, status, address)
      SELECT id('1c'), id('1a'), other('0e'), other('0d'), 'assigned', 'her street' FROM people;
    INSERT INTO deliveries (id, order_id, user_id, device_id, status, address)
      SELECT id('1d'), other('1a'), id('0e'), id('0d'), 'assigned', 'the bystander''s street' FROM people;`,
};

/** Points on two days that are compressed, and of today: 3 a person and day, in hours that are aggregated. */
const points = `
  INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, metadata)
    SELECT date_trunc('day', now()) - day * interval '1 day' - interval '5 hours' + minute * interval '1 minute',
      id('0d'), id('0e'), 'mextrack', 1, 2, '{"note": "at home"}'
    FROM people, unnest(ARRAY[0, 12, 13]) AS day, generate_series(1, 3) AS minute;`;

/** Adds the bystander and the people 1 to `count` to all databases that are given. */
export async function addPeople(pools: Partial<Pools>, count: number): Promise<void> {
  for (const key of databaseKeys) {
    const pool = pools[key];
    const rows = key === 'tracking' ? points : rowsOf[key];
    if (!pool || !rows) continue;
    const text = rows
      .replaceAll(/\bid\('(..)'\)/g, "('$1000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid")
      .replaceAll(/\bother\('(..)'\)/g, "'$1000000-0000-4000-8000-000000000000'::uuid");
    await withTransaction(pool, async (transaction) => {
      await transaction.query(
        `CREATE TEMP TABLE people ON COMMIT DROP AS SELECT generate_series(${bystander}, ${count}) AS n`,
      );
      await transaction.query(text);
    });
  }
  if (!pools.tracking) return;
  await refresh(pools.tracking);
  await pools.tracking.query(
    "SELECT compress_chunk(chunk) FROM show_chunks('location_events', older_than => interval '7 days') AS chunk",
  );
}

/** Fourteen days, all of which have their raw points. */
export const refresh = (tracking: Pool) =>
  tracking.query(
    "CALL refresh_continuous_aggregate('location_hourly', now() - interval '20 days', now() - interval '1 hour')",
  );

/** Every row that belongs, or once belonged, to a person, without times and with their number taken out. */
export async function rowsLeft(pools: Partial<Pools>, person: number): Promise<string[]> {
  const left: string[] = [];
  for (const key of databaseKeys) {
    const pool = pools[key];
    if (!pool) continue;
    const { rows: relations } = await pool.query<{ name: string; id: string }>(
      `SELECT table_name AS name, min(column_name) FILTER (WHERE column_name IN ('id', 'device_id')) AS id
       FROM information_schema.columns
       WHERE table_schema = 'public' AND column_name = ANY($1) GROUP BY table_name ORDER BY table_name`,
      [key === 'tracking' ? ['device_id'] : ['id']],
    );
    for (const { name, id } of relations) {
      const { rows } = await pool.query<{ row: string }>(
        `SELECT (to_jsonb(r) - 'created_at' - 'updated_at' - 'hour' - 'starts_at' - 'ends_at')::text AS row
         FROM ${quoteIdentifier(name)} r WHERE r.${id}::text LIKE '%' || $1 ORDER BY 1`,
        [suffix(person)],
      );
      left.push(...rows.map(({ row }) => `${name} ${row.replaceAll(suffix(person), 'N')}`));
    }
  }
  return left;
}
