// Creates atriz_tracking on a server without TimescaleDB: with the same tables and indexes, without a hypertable, and
// with the aggregate as a view. For benchmarks, and for tests that do not depend on chunks.
import { readMigrations } from '../../src/migrations/index.ts';
import type { Pool } from '../../src/pool.ts';

/** Runs the migrations that do not need TimescaleDB in an empty database, and creates the aggregate as a view. */
export async function createPlainTracking(pool: Pool): Promise<void> {
  for (const { sql, statements } of readMigrations('tracking')) {
    const [withoutAggregate, aggregate] = [!/timescaledb|create_hypertable/i.test(sql), plainAggregate(sql)];
    if (withoutAggregate) for (const { text } of statements) await pool.query(text);
    else if (aggregate) await pool.query(aggregate);
  }
  // With TimescaleDB, create_hypertable creates this index.
  await pool.query('CREATE INDEX "location_events_time_idx" ON "location_events" ("time" DESC)');
}

/** Returns location_hourly as a view, with date_trunc for time_bucket; undefined if `sql` does not create it. */
function plainAggregate(sql: string): string | undefined {
  const [, name, query] =
    /CREATE MATERIALIZED VIEW ("\w+")\s+WITH \([^)]*\) AS\s+(SELECT[\s\S]*?)\s+WITH NO DATA;/.exec(sql) ?? [];
  if (!name || !query) return undefined;
  return `CREATE VIEW ${name} AS ${query.replace('time_bucket(INTERVAL \'1 hour\', "time")', "date_trunc('hour', \"time\", 'UTC')")}`;
}
