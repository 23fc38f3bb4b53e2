// The checks of the doctor about TimescaleDB: each finding provoked, its mend applied, and gone.
import { beforeAll, expect, test, vi } from 'vitest';
import { defaultThresholds } from '../../scripts/doctor/thresholds.ts';
import type { Pool } from '../../src/index.ts';
import { insertLocations } from '../../src/tracking/events.ts';
import { runCli } from '../support/cli.ts';
import { describeWith } from '../support/database.ts';
import { applyMends, doctor, examine, patient } from '../support/doctor.ts';
import { day, point } from '../support/tracking-points.ts';

// Each test runs the command line several times, on a machine that may be busy.
vi.setConfig({ testTimeout: 90_000 });

describeWith(['timescaledb'], 'the doctor', () => {
  let db: Pool;
  let environment: Record<string, string>;
  beforeAll(async () => {
    ({ db, environment } = await patient('tracking'));
    // Where there are background workers, tests switch the jobs off; switched on, none of them is due at once.
    await db.query(
      `SELECT alter_job(job_id, scheduled => true, next_start => now() + interval '1 day')
       FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL`,
    );
  });
  const find = (name: string, thresholds?: Parameters<typeof examine>[3]) =>
    examine(db, 'tracking', name, thresholds);
  const mended = async (name: string) => {
    await applyMends(db, await find(name));
    return find(name);
  };
  const at = (age: number) => point({ time: new Date(Date.now() - age) });
  /** What a background worker would have written down; alter_job has made the row. */
  const record = (isSuccess: boolean, nextStart: string) =>
    db.query(
      `UPDATE _timescaledb_internal.bgw_job_stat
       SET last_finish = now(), last_run_success = $1, next_start = now() + $2::interval
       WHERE job_id = (SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression')`,
      [isSuccess, nextStart],
    );

  test('finds nothing in what the migrations made', async () => {
    expect(await doctor(environment, 'tracking')).toEqual({ code: 0, findings: [] });
  });

  test('finds policies that are not as declared, once, and what else was changed by hand', async () => {
    await db.query("SELECT remove_retention_policy('location_events')");
    await db.query("SELECT set_chunk_time_interval('location_events', interval '2 days')");
    await db.query("SELECT add_reorder_policy('location_events', 'idx_location_device')");
    await db.query('ALTER MATERIALIZED VIEW location_hourly SET (timescaledb.materialized_only = true)');
    await db.query(
      `SELECT alter_job(job_id, config => jsonb_set(config, '{end_offset}', '"02:00:00"'))
       FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'`,
    );
    await db.query('DROP TRIGGER set_updated_at ON location_late_hours');
    const { code, findings } = await doctor(environment, 'tracking');
    expect(code).toBe(3);
    expect(findings.map(({ check, reason }) => `${check}: ${reason.split(/, declared|;/)[0]}`)).toEqual([
      'drift: trigger public.location_late_hours.set_updated_at is gone',
      'policies: chunkInterval of location_events is 2 days',
      expect.stringContaining('policies: policy_reorder of location_events is '),
      'policies: retention of location_events is not set',
      'policies: materializedOnly of location_hourly is true',
      'policies: refresh.endOffset of location_hourly is 02:00:00',
    ]);
    await applyMends(db, findings);
    expect(await doctor(environment, 'tracking')).toEqual({ code: 0, findings: [] });
  });

  test('finds a job that is switched off, and one that failed', async () => {
    await db.query(
      `SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'`,
    );
    expect(await find('jobs')).toMatchObject([
      { severity: 'warning', mend: expect.stringMatching(/^SELECT alter_job\(\d+, scheduled => true\)$/) },
    ]);
    expect(await mended('jobs')).toEqual([]);

    await record(false, '1 day');
    expect(await find('jobs')).toMatchObject([
      {
        severity: 'error',
        reason: expect.stringMatching(/policy_compression of location_events, failed/),
        mend: expect.stringMatching(/^CALL run_job\(\d+\)$/),
      },
    ]);
    await record(true, '1 day');
    expect(await find('jobs')).toEqual([]);
  });

  test('finds a job that is overdue, where there is a scheduler that should have run it', async () => {
    await using session = db.dedicated();
    const { rows } = await session.query<{ workers: string | null }>(
      "SELECT current_setting('timescaledb.max_background_workers', true) AS workers",
    );
    await record(true, '-3 hours');
    if (rows[0]?.workers === null) {
      // The embedded server has no scheduler, and keeps no record: this is no finding there.
      expect(await examine(session, 'tracking', 'jobs')).toEqual([]);
      await session.query('SET timescaledb.max_background_workers = 16');
    } else {
      await session.query('SELECT _timescaledb_functions.stop_background_workers()');
      await record(true, '-3 hours');
    }
    expect(await examine(session, 'tracking', 'jobs')).toMatchObject([
      {
        severity: 'error',
        reason: expect.stringMatching(/overdue for 180 minutes/),
        mend: 'SELECT _timescaledb_functions.start_background_workers()',
      },
    ]);
    await record(true, '1 day');
    expect(await examine(session, 'tracking', 'jobs')).toEqual([]);
  });

  test('finds points that the aggregate lacks', async () => {
    await insertLocations(db, [at(2 * 3_600_000)]);
    expect(await find('aggregate')).toEqual([]);
    await insertLocations(db, [at(3 * day)]);
    expect(await find('aggregate')).toMatchObject([
      {
        severity: 'error',
        reason: expect.stringContaining('location_hourly has nothing, although there are points'),
      },
    ]);
    expect(await mended('aggregate')).toEqual([]);

    // As if the refresh had stopped then.
    const { rows } = await db.query<{ storage: string }>(
      `SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) AS storage
       FROM timescaledb_information.continuous_aggregates`,
    );
    await db.query(`DELETE FROM ${rows[0]?.storage} WHERE hour > now() - interval '60 hours'`);
    await insertLocations(db, [at(2 * day)]);
    expect(await find('aggregate')).toMatchObject([
      {
        severity: 'error',
        reason: expect.stringMatching(
          /^location_hourly has nothing after \d{4}-.*Z, although there are points/,
        ),
      },
    ]);
    expect(await mended('aggregate')).toEqual([]);
  });

  test('finds late points that nobody brought into the aggregate', async () => {
    await db.query(
      "INSERT INTO location_late_hours (hour, created_at) SELECT date_trunc('hour', now() - interval '10 days'), now() - age FROM unnest(ARRAY[interval '1 hour', '2 days']) AS age",
    );
    expect(await find('late-hours')).toMatchObject([
      {
        severity: 'warning',
        reason: expect.stringMatching(/^1 hour with late points waits/),
        mend: 'npm run db:refresh-late',
      },
    ]);
    expect((await runCli(['refresh-late'], environment)).code).toBe(0);
    expect(await find('late-hours')).toEqual([]);
  });

  test('finds the other settings of compression, and policies that are gone', async () => {
    await db.query("SELECT remove_compression_policy('location_events')");
    await db.query("SELECT remove_retention_policy('location_hourly')");
    await db.query("SELECT remove_continuous_aggregate_policy('location_hourly')");
    await db.query(
      "ALTER TABLE location_events SET (timescaledb.compress_segmentby = 'user_id', timescaledb.compress_orderby = 'time')",
    );
    const findings = await find('policies');
    expect(findings.map(({ severity, reason }) => [severity, reason.split(', declared')[0]])).toEqual([
      ['error', 'compression.after of location_events is not set'],
      ['error', expect.stringMatching(/^compression.orderBy of location_events is time/)],
      ['error', 'compression.segmentBy of location_events is user_id'],
      ['error', 'refresh.endOffset of location_hourly is not set'],
      ['error', 'refresh.every of location_hourly is not set'],
      ['error', 'refresh.startOffset of location_hourly is not set'],
      ['error', 'retention of location_hourly is not set'],
    ]);
    await applyMends(db, findings);
    expect(await find('policies')).toEqual([]);
  });

  test('finds chunks that should be compressed, and those that compress poorly', async () => {
    await insertLocations(db, [at(8 * day)]);
    expect(await find('chunks')).toEqual([]);
    await insertLocations(db, [at(12 * day)]);
    expect(await find('chunks')).toMatchObject([
      {
        severity: 'warning',
        reason: expect.stringMatching(/^1 chunk of location_events/),
        mend: expect.stringMatching(/^CALL run_job/),
      },
    ]);
    expect(await mended('chunks')).toEqual([]);

    expect(await find('compression')).toEqual([]);
    const chunks = { ...defaultThresholds.chunks, ratioFrom: 0, ratio: 1_000 };
    const poor = await find('compression', { chunks });
    expect(poor).toMatchObject([
      { severity: 'warning', mend: expect.stringMatching(/^SELECT compress_chunk\(.*recompress => true\)/) },
    ]);
    await applyMends(db, poor);
  });
});
