// The checks of the doctor about TimescaleDB: each finding provoked, its mend applied, and gone.
import { beforeAll, expect, test } from 'vitest';
import { thresholds } from '../../scripts/doctor/thresholds.ts';
import type { Pool } from '../../src/index.ts';
import { insertLocations } from '../../src/tracking/record.ts';
import { describeWith, testWith } from '../support/database.ts';
import { applyMends, doctor, examine, patient } from '../support/doctor.ts';
import { day, point } from '../support/tracking-points.ts';

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
  const find = (name: string, others?: Parameters<typeof examine>[3]) =>
    examine(db, 'tracking', name, others);
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
       FROM timescaledb_information.jobs WHERE config->>'start_offset' = '7 days'`,
    );
    await db.query('DROP TRIGGER set_updated_at ON location_writers');
    const { code, findings } = await doctor(environment, 'tracking');
    expect(code).toBe(3);
    expect(findings.map(({ check, reason }) => `${check}: ${reason.split(/, declared|;/)[0]}`)).toEqual([
      'drift: trigger public.location_writers.set_updated_at is gone',
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
        mend: expect.stringMatching(/^SELECT alter_job\(\d+, next_start => now\(\)\)$/),
      },
    ]);
    await record(true, '1 day');
    expect(await find('jobs')).toEqual([]);
  });

  test.each([
    ['cannot drop portal "" while it is being set up', /^upgrade to PostgreSQL 16/],
    ['failed to start job', /^SELECT alter_job\(\d+, next_start/],
  ])('names a mend that helps a job of which the scheduler says %s', async (message, mend) => {
    await record(false, '1 day');
    const { rows } = await db.query<{ id: number }>(
      `INSERT INTO _timescaledb_internal.bgw_job_stat_history (job_id, pid, execution_start, execution_finish, succeeded, data)
       SELECT job_id, 1, now(), now(), false,
         jsonb_build_object('error_data', jsonb_build_object('message', $1::text, 'sqlerrcode', 'XX000'))
       FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' RETURNING id`,
      [message],
    );
    expect(await find('jobs')).toMatchObject([
      { reason: expect.stringContaining(message), mend: expect.stringMatching(mend) },
    ]);
    await db.query('DELETE FROM _timescaledb_internal.bgw_job_stat_history WHERE id = $1', [rows[0]?.id]);
    await record(true, '1 day');
  });

  testWith(
    ['background-workers'],
    'lets the scheduler run a job that failed, and the finding is gone',
    async () => {
      await record(false, '1 day');
      await db.query('SELECT _timescaledb_functions.start_background_workers()');
      await applyMends(db, await find('jobs'));
      await expect.poll(() => find('jobs'), { interval: 100 }).toEqual([]);
      await record(true, '1 day');
    },
  );

  test('compares the slots for workers with what the databases here need', async () => {
    await using session = db.dedicated();
    await session.query('SET timescaledb.max_background_workers = 16').catch(() => undefined);
    await session.query('SET max_parallel_workers = 1000');
    const [found] = await examine(session, 'tracking', 'workers');
    expect(found).toMatchObject({
      severity: 'warning',
      reason: expect.stringMatching(
        /^max_worker_processes is \d+, and the databases of this server need 1\d{3}: /,
      ),
      mend: expect.stringMatching(/^ALTER SYSTEM SET max_worker_processes = 1\d{3}$/),
    });
  });

  test('finds a job that is overdue, where there is a scheduler that should have run it', async () => {
    await using session = db.dedicated();
    const { rows } = await session.query<{ workers: string | null }>(
      "SELECT current_setting('timescaledb.max_background_workers', true) AS workers",
    );
    await record(true, '-3 hours');
    if (rows[0]?.workers === null) {
      // The embedded server has no scheduler, and keeps no record: this is not a finding there.
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
        reason: expect.stringContaining('location_hourly has nothing, although there are locations'),
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
          /^location_hourly has nothing after \d{4}-.*Z, although there are locations/,
        ),
      },
    ]);
    expect(await mended('aggregate')).toEqual([]);
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
      ['error', 'lateRefresh.endOffset of location_hourly is not set'],
      ['error', 'lateRefresh.every of location_hourly is not set'],
      ['error', 'lateRefresh.startOffset of location_hourly is not set'],
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
    const chunks = { ...thresholds.chunks, ratioFrom: 0, ratio: 1_000 };
    const poor = await find('compression', { chunks });
    expect(poor).toMatchObject([
      { severity: 'warning', mend: expect.stringMatching(/^SELECT compress_chunk\(.*recompress => true\)/) },
    ]);
    await applyMends(db, poor);
  });
});
