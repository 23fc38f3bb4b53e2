// TimescaleDB's functions: idempotent, checked, and clear where the extension is missing.
import { beforeAll, describe, expect, test } from 'vitest';
import {
  addCompressionPolicy,
  addContinuousAggregatePolicy,
  addRetentionPolicy,
  createHypertable,
  enableTimescaleDB,
  type Pool,
  refreshContinuousAggregate,
  TimescaleMissingError,
  ValidationError,
  withTransaction,
} from '../../src/index.ts';
import { describeMissing } from '../../src/timescale/timescale.ts';
import { describeWith, emptyDatabase, openPool, testPool } from '../support/database.ts';

describeWith(['timescaledb'], 'with TimescaleDB', () => {
  let db: Pool;
  beforeAll(async () => {
    db = openPool('tracking', await emptyDatabase('tracking'));
    await enableTimescaleDB(db);
    await db.query('CREATE TABLE readings (time timestamptz NOT NULL, sensor int NOT NULL, value float8)');
    await db.query('CREATE SCHEMA "odd schema"');
    await db.query('CREATE TABLE "odd schema"."odd table" ("the time" timestamptz NOT NULL)');
  });

  test('enableTimescaleDB twice does nothing the second time, also in a transaction', async () => {
    await withTransaction(db, (transaction) => enableTimescaleDB(transaction));
    const { rowCount } = await db.query("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'");
    expect(rowCount).toBe(1);
  });

  test('createHypertable partitions by the interval and is idempotent', async () => {
    await createHypertable(db, 'readings', 'time', '6 hours');
    await createHypertable(db, 'readings', 'time', '6 hours');
    await createHypertable(db, 'odd schema.odd table', 'the time', '1 day');
    const { rows } = await db.query(
      'SELECT hypertable_name, time_interval::text FROM timescaledb_information.dimensions ORDER BY 1',
    );
    expect(rows).toEqual([
      { hypertable_name: 'odd table', time_interval: '1 day' },
      { hypertable_name: 'readings', time_interval: '06:00:00' },
    ]);
  });

  test.each([
    ['missing', 'time', '1 day', 'no relation "missing"'],
    ['readings; DROP TABLE readings', 'time', '1 day', 'no relation'],
    ['odd schema.odd table', 'nope', '1 day', 'nope'],
    ['readings', 'time', 'soon', 'chunkInterval is "soon"'],
    ['readings', 'time', '-1 day', 'chunkInterval is "-1 day"'],
  ])('createHypertable(%j, %j, %j) is refused: %s', async (table, column, interval, reason) => {
    const target = table === 'odd schema.odd table' ? 'plain_table' : table;
    await db.query('CREATE TABLE IF NOT EXISTS plain_table (time timestamptz NOT NULL)');
    const created = createHypertable(db, target, column, interval);
    await expect(created).rejects.toThrow(ValidationError);
    await expect(created).rejects.toThrow(reason);
  });

  test('policies are added once, return their job, and refuse to change silently', async () => {
    const retention = await addRetentionPolicy(db, 'readings', '30 days');
    expect(retention).toBeGreaterThan(0);
    expect(await addRetentionPolicy(db, 'readings', '720 hours')).toBe(retention);
    await expect(addRetentionPolicy(db, 'readings', '5 days')).rejects.toThrow(
      `has this policy already, with drop_after 30 days (job ${retention}): change it in a migration`,
    );
    const compression = await addCompressionPolicy(db, 'readings', '7 days', {
      segmentBy: ['sensor'],
      orderBy: ['time DESC'],
    });
    expect(await addCompressionPolicy(db, 'readings', '7 days')).toBe(compression);
    await expect(addCompressionPolicy(db, 'readings', '7 days', { segmentBy: ["x'; DROP"] })).rejects.toThrow(
      'is not a column for segmentBy',
    );
    await expect(addCompressionPolicy(db, 'odd schema.odd table', '7 days')).rejects.toThrow(ValidationError);
  });

  test('a continuous aggregate is refreshed by policy and by hand', async () => {
    await db.query(`CREATE MATERIALIZED VIEW readings_hourly WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
      SELECT time_bucket('1 hour', time) AS hour, sensor, count(*) FROM readings GROUP BY 1, 2 WITH NO DATA`);
    const policy = { startOffset: '3 days', endOffset: '1 hour', scheduleInterval: '30 minutes' };
    const job = await addContinuousAggregatePolicy(db, 'readings_hourly', policy);
    expect(await addContinuousAggregatePolicy(db, 'readings_hourly', policy)).toBe(job);
    await expect(
      addContinuousAggregatePolicy(db, 'readings_hourly', { ...policy, startOffset: '9 days' }),
    ).rejects.toThrow(/start_offset 3 days|overlaps with an existing/);

    await db.query(
      "INSERT INTO readings VALUES ('2026-01-01T10:15:00Z', 1, 1), ('2026-01-01T10:45:00Z', 1, 2)",
    );
    const from = new Date('2026-01-01T00:00:00Z');
    await refreshContinuousAggregate(db, 'readings_hourly', { from, to: new Date('2026-01-02T00:00:00Z') });
    expect((await db.query('SELECT sensor, count FROM readings_hourly')).rows).toEqual([
      { sensor: 1, count: '2' },
    ]);
    await expect(refreshContinuousAggregate(db, 'readings_hourly', { from, to: from })).rejects.toThrow(
      'a "from" that lies before',
    );
    await expect(
      withTransaction(db, (transaction) =>
        refreshContinuousAggregate(transaction, 'readings_hourly', { from, to: new Date() }),
      ),
    ).rejects.toThrow('cannot run in a transaction');
    await expect(refreshContinuousAggregate(db, 'readings', { from, to: new Date() })).rejects.toThrow(
      ValidationError,
    );
  });
});

describe('where TimescaleDB is not enabled', async () => {
  const db = await testPool('core');
  test.each([
    ['createHypertable', () => createHypertable(db, 'users', 'created_at', '1 day')],
    ['addRetentionPolicy', () => addRetentionPolicy(db, 'users', '1 day')],
    ['addCompressionPolicy', () => addCompressionPolicy(db, 'users', '1 day')],
    [
      'addContinuousAggregatePolicy',
      () =>
        addContinuousAggregatePolicy(db, 'users', {
          startOffset: '1 day',
          endOffset: '1 hour',
          scheduleInterval: '1 hour',
        }),
    ],
    [
      'refreshContinuousAggregate',
      () => refreshContinuousAggregate(db, 'users', { from: new Date(0), to: new Date() }),
    ],
  ])('%s says so and how to enable it', async (_, call) => {
    await expect(call()).rejects.toThrow(TimescaleMissingError);
    await expect(call()).rejects.toThrow(/not enabled in .*enableTimescaleDB/);
  });

  test('enableTimescaleDB says what the server lacks, unless it offers TimescaleDB', async () => {
    const { rowCount } = await db.query("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'");
    if (rowCount === 0) await expect(enableTimescaleDB(db)).rejects.toThrow(TimescaleMissingError);
    else await expect(enableTimescaleDB(db)).resolves.toBeUndefined();
  });
});

test.each([
  [
    { version: null, isLoaded: false, libraries: '' },
    /^does not offer TimescaleDB: install version 2\.29\.2/,
  ],
  [
    { version: '2.19.3', isLoaded: true, libraries: null },
    /^has TimescaleDB 2\.19\.3: install 2\.23 or newer/,
  ],
  [
    { version: '2.29.2', isLoaded: false, libraries: 'auto_explain, pg_stat_statements' },
    /not loaded: as a superuser ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements', 'timescaledb', and restart/,
  ],
  [
    { version: '2.29.2', isLoaded: false, libraries: null },
    /not loaded: add it to shared_preload_libraries, and restart/,
  ],
  [{ version: '2.23.0-dev', isLoaded: true, libraries: null }, undefined],
])('what a server of %o lacks is named with its mend', (server, message) => {
  if (message) expect(describeMissing(server)).toMatch(message);
  else expect(describeMissing(server)).toBeUndefined();
});
