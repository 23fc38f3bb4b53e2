// The examples of the database guide, typed in as they stand: they compile (npm run verify) and run.
import { randomUUID } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import {
  addRetentionPolicy,
  createDatabasePool,
  createHypertable,
  enableTimescaleDB,
  type Pool,
  type SeedFunction,
  withTransaction,
} from '../../src/index.ts';
import { describeWith, emptyDatabase, migratedDatabase } from '../support/database.ts';

describeWith(['timescaledb'], 'Usage in applications', () => {
  test('sets up a hypertable, records a location, reads recent ones and hourly statistics', async () => {
    process.env.TRACKING_DATABASE_URL = await migratedDatabase('tracking');
    // Create connection to tracking database
    const trackingDb = createDatabasePool({
      connectionString: process.env.TRACKING_DATABASE_URL,
      max: 20,
    });

    // Enable TimescaleDB and setup hypertable (run once during setup)
    await enableTimescaleDB(trackingDb.pool);
    await createHypertable(trackingDb.pool, 'location_events', 'time', '1 day');
    await addRetentionPolicy(trackingDb.pool, 'location_events', '30 days');

    // Insert GPS data from Mextrack
    async function recordVehicleLocation(data: {
      deviceId: string;
      userId: string;
      latitude: number;
      longitude: number;
      speed?: number;
    }) {
      await trackingDb.query(
        `
    INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, speed)
    VALUES (NOW(), $1, $2, 'mextrack', $3, $4, $5)
  `,
        [data.deviceId, data.userId, data.latitude, data.longitude, data.speed],
      );
    }

    // Query recent locations (last 24 hours)
    async function getRecentLocations(deviceId: string) {
      const result = await trackingDb.query(
        `
    SELECT time, latitude, longitude, speed
    FROM location_events
    WHERE device_id = $1
      AND time > NOW() - INTERVAL '24 hours'
    ORDER BY time DESC
  `,
        [deviceId],
      );

      return result.rows;
    }

    // Query hourly stats for analytics
    async function getHourlyStats(deviceId: string, days: number = 7) {
      const result = await trackingDb.query(
        `
    SELECT hour, point_count, avg_speed, max_speed
    FROM location_hourly
    WHERE device_id = $1
      AND hour > NOW() - INTERVAL '${days} days'
    ORDER BY hour DESC
  `,
        [deviceId],
      );

      return result.rows;
    }

    const deviceId = randomUUID();
    await recordVehicleLocation({ deviceId, userId: randomUUID(), latitude: 1.5, longitude: 2, speed: 30 });
    await recordVehicleLocation({ deviceId, userId: randomUUID(), latitude: 1.5, longitude: 2 });
    const recent = await getRecentLocations(deviceId);
    expect(recent).toMatchObject([{ speed: null }, { speed: '30.00', latitude: '1.50000000' }]);
    expect(recent[0]?.time).toBeInstanceOf(Date);
    expect((await getHourlyStats(deviceId)).reduce((sum, row) => sum + Number(row.point_count), 0)).toBe(2);
    await trackingDb.close();
  });
});

test('Using the database package: query, transaction, close', async () => {
  process.env.DATABASE_URL = await migratedDatabase('core');
  // Create connection pool
  const db = createDatabasePool({
    connectionString: process.env.DATABASE_URL,
    max: 20,
  });

  // Query data
  const users = await db.query('SELECT * FROM users WHERE is_active = $1', [true]);
  expect(users).toEqual({ rows: [], rowCount: 0 });

  // Use transactions
  await withTransaction(db.pool, async (client) => {
    await client.query(
      "INSERT INTO users (email, password_hash, name) VALUES ('guide@atriz.dev', 'x', 'Guide'); INSERT INTO roles (name) VALUES ('reader')",
    );
    await client.query('INSERT INTO user_roles (user_id, role_id) SELECT u.id, r.id FROM users u, roles r');
    // Auto-commits on success, rolls back on error
  });
  expect((await db.query('SELECT * FROM user_roles')).rowCount).toBe(1);

  // Close connection
  await db.close();
  await expect(db.query('SELECT 1')).rejects.toThrow('the pool is closed already');
});

test('Creating seed files: a SeedFunction over the pool, idempotent', async () => {
  const seed: SeedFunction = async (pool: Pool) => {
    console.log('Seeding default users...');

    // Skip in production
    if (process.env.NODE_ENV === 'production') {
      console.warn('Skipping seed in production');
      return;
    }

    await pool.query(
      `
    INSERT INTO users (email, password_hash, name, email_verified)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (email) DO NOTHING
  `,
      ['admin@atriz.dev', '$2a$10$...', 'Admin User', true],
    );

    console.log('✓ Seeded default users');
  };

  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  const db = createDatabasePool({ connectionString: await migratedDatabase('core') });
  await seed(db.pool);
  await seed(db.pool);
  expect((await db.query('SELECT email, email_verified FROM users')).rows).toEqual([
    { email: 'admin@atriz.dev', email_verified: true },
  ]);
  expect(log).toHaveBeenCalledWith('✓ Seeded default users');
  await db.close();
});

test('Migration file structure, common tasks: the SQL of the guide runs', async () => {
  const db = createDatabasePool({ connectionString: await emptyDatabase('core') });
  await db.query('CREATE TABLE users (name varchar(10), email varchar(255))');
  await db.query(`
CREATE TABLE user_metadata (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL,
  key VARCHAR(100) NOT NULL,
  value JSONB,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
  UNIQUE(user_id, key)
);

CREATE INDEX idx_user_metadata_user_id ON user_metadata(user_id);

-- Add comments
COMMENT ON TABLE user_metadata IS 'Flexible user metadata storage';

ALTER TABLE users
ADD COLUMN avatar_url VARCHAR(500);

CREATE INDEX idx_users_avatar ON users(avatar_url)
WHERE avatar_url IS NOT NULL;

ALTER TABLE users
ALTER COLUMN name TYPE TEXT;
`);
  const { rows } = await db.query("SELECT obj_description('user_metadata'::regclass) AS comment");
  expect(rows).toEqual([{ comment: 'Flexible user metadata storage' }]);
  await db.close();
});
