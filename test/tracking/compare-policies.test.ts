// The declared policies and those of a live database: equal after the migrations, each difference named.
import { beforeAll, expect, test } from 'vitest';
import type { Pool } from '../../src/pool.ts';
import { comparePolicies } from '../../src/tracking/index.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, emptyDatabase, migratedDatabase, openPool } from '../support/database.ts';

describeWith(['timescaledb'], 'comparePolicies', () => {
  let db: Pool;
  let url: string;
  beforeAll(async () => {
    url = await migratedDatabase('tracking');
    db = openPool('tracking', url);
  });

  test('finds no difference after the migrations', async () => {
    expect(await comparePolicies(db)).toEqual([]);
  });

  test('names what was changed, removed and added by hand, and db:check exits 3', async () => {
    await db.query(
      `SELECT alter_job(job_id, config => jsonb_set(config, '{end_offset}', '"02:00:00"'), schedule_interval => interval '1 hour')
       FROM timescaledb_information.jobs WHERE config->>'start_offset' = '7 days'`,
    );
    await db.query(
      "SELECT alter_job(job_id, config => jsonb_set(config, '{start_offset}', '\"29 days\"')) FROM timescaledb_information.jobs WHERE config->>'start_offset' = '28 days'",
    );
    await db.query("SELECT remove_retention_policy('location_events')");
    await db.query("SELECT set_chunk_time_interval('location_events', interval '2 days')");
    await db.query("SELECT add_reorder_policy('location_events', 'idx_location_device')");
    await db.query('ALTER MATERIALIZED VIEW location_hourly SET (timescaledb.materialized_only = true)');
    expect(await comparePolicies(db)).toEqual([
      { relation: 'location_events', setting: 'chunkInterval', declared: '1 day', found: '2 days' },
      { relation: 'location_events', setting: 'policy_reorder', declared: null, found: expect.any(String) },
      { relation: 'location_events', setting: 'retention', declared: '30 days', found: null },
      {
        relation: 'location_hourly',
        setting: 'lateRefresh.startOffset',
        declared: '28 days',
        found: '29 days',
      },
      { relation: 'location_hourly', setting: 'materializedOnly', declared: 'false', found: 'true' },
      { relation: 'location_hourly', setting: 'refresh.endOffset', declared: '1 hour', found: '02:00:00' },
      { relation: 'location_hourly', setting: 'refresh.every', declared: '30 minutes', found: '01:00:00' },
    ]);
    const { code, stderr } = await runCli(['check', 'tracking'], environmentFor('tracking', url));
    expect(code).toBe(3);
    expect(stderr).toContain('retention of location_events is not set, declared is 30 days');
  });

  test('says that a database without TimescaleDB has none', async () => {
    const plain = openPool('tracking', await emptyDatabase('atriz'));
    await expect(comparePolicies(plain)).rejects.toThrow(/TimescaleDB is not enabled/);
  });
});
