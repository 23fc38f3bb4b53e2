// The policies run by themselves where nothing else runs them.
import { randomUUID } from 'node:crypto';
import { expect, inject, test } from 'vitest';
import { startJobs } from '../../scripts/embedded/jobs.ts';
import { insertLocations } from '../../src/tracking/record.ts';
import { migratedDatabase, openPool } from '../support/database.ts';

const day = 86_400_000;

test.skipIf(
  inject('server').capabilities.includes('background-workers') ||
    !inject('server').capabilities.includes('timescaledb'),
)(
  'compression, refresh and retention happen without anybody calling them (skipped on servers that do it themselves)',
  async () => {
    const url = await migratedDatabase('tracking');
    const pool = openPool('tracking', url);
    const device = {
      deviceId: randomUUID(),
      userId: randomUUID(),
      appSource: 'mextrack',
      latitude: 1,
      longitude: 2,
    };
    await insertLocations(
      pool,
      [40, 10, 3].map((age) => ({ ...device, time: new Date(Date.now() - age * day) })),
    );
    const errors: string[] = [];
    const stop = startJobs(url, {
      interval: 100,
      onError: (job, error) => errors.push(`${job}: ${error.message}`),
    });
    const chunks = async () =>
      (
        await pool.query(
          `SELECT count(*)::int AS chunks, (count(*) FILTER (WHERE is_compressed))::int AS compressed
           FROM timescaledb_information.chunks WHERE hypertable_name = 'location_events'`,
        )
      ).rows[0];
    await expect.poll(chunks).toEqual({ chunks: 2, compressed: 1 });
    const materialized = async () =>
      (
        await pool.query(
          "SELECT 1 FROM timescaledb_information.chunks WHERE hypertable_name LIKE '%materialized%'",
        )
      ).rowCount;
    await expect.poll(materialized).toBeGreaterThan(0);
    // The point of 10 days ago is behind the window of the first refresh policy.
    const hours = async () =>
      (await pool.query("SELECT FROM location_hourly WHERE hour < now() - interval '7 days'")).rowCount;
    await expect.poll(hours).toBe(1);
    await stop();
    expect(errors).toEqual([]);
  },
);
