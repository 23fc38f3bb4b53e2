// Calls TimescaleDB's functions for hypertables, policies and continuous aggregates. Calls can be repeated safely.
import { sqlState, TimescaleMissingError, ValidationError } from '../errors.ts';
import { type AnyDatabase, databaseOf } from '../pool.ts';
import { quoteRelation } from '../sql/identifiers.ts';
import { Transaction } from '../transaction.ts';
import { policyJobs } from './catalog.ts';

/** A PostgreSQL interval, such as `'7 days'` or `'1 hour'`. */
export type Interval = string;

/** The oldest version on which the migrations and tests run. */
export const oldestTimescale = '2.23';

/**
 * Enables TimescaleDB in the database. Does nothing if it is already enabled.
 * @throws TimescaleMissingError if the server does not offer it, has not loaded it, or has a version that is too old.
 */
export async function enableTimescaleDB(db: AnyDatabase): Promise<void> {
  await requireTimescale(db);
  await databaseOf(db).query('CREATE EXTENSION IF NOT EXISTS timescaledb CASCADE');
}

/** What a server says about its TimescaleDB. */
interface Offer {
  version: string | null;
  isLoaded: boolean;
  libraries: string | null;
}

/**
 * Checks that the server can enable TimescaleDB. Call it before CREATE EXTENSION, which ends the session if
 * TimescaleDB is installed but not loaded.
 * @throws TimescaleMissingError whose message says what to do.
 */
export async function requireTimescale(db: AnyDatabase): Promise<void> {
  // The settings show whether the library is loaded. Few roles may read shared_preload_libraries itself.
  const { rows } = await databaseOf(db).query<Offer>(
    `SELECT (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'timescaledb') AS version,
       EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name LIKE 'timescaledb.%') AS "isLoaded",
       (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries') AS libraries`,
  );
  const problem = rows[0] && describeMissing(rows[0]);
  if (problem) throw new TimescaleMissingError(`The server of ${databaseOf(db).name} ${problem}`);
}

/** Explains why a server cannot enable TimescaleDB, and what to do. Undefined if it can. */
export function describeMissing({ version, isLoaded, libraries }: Offer): string | undefined {
  if (version === null) {
    return (
      'does not offer TimescaleDB: install version 2.29.2 or newer, add it to shared_preload_libraries and restart; ' +
      'for development, "npm run dev" has it.'
    );
  }
  if (isOlder(version, oldestTimescale)) {
    return `has TimescaleDB ${version}: install ${oldestTimescale} or newer, better 2.29.2 or newer, and restart.`;
  }
  if (isLoaded) return undefined;
  const names = [...(libraries ?? '').split(',').map((name) => name.trim()), 'timescaledb'].filter(Boolean);
  const statement = `ALTER SYSTEM SET shared_preload_libraries = ${names.map((name) => `'${name}'`).join(', ')}`;
  const how = libraries === null ? 'add it to shared_preload_libraries' : `as a superuser ${statement}`;
  return `has TimescaleDB ${version} installed but not loaded: ${how}, and restart the server.`;
}

/** Compares the parts of the versions as numbers: 2.9 is older than 2.23. */
export function isOlder(version: string, than: string): boolean {
  const numbers = (text: string) => (text.match(/\d+/g) ?? []).map(Number);
  const parts = numbers(version);
  for (const [index, limit] of numbers(than).entries()) {
    const part = parts[index] ?? 0;
    if (part !== limit) return part < limit;
  }
  return false;
}

/**
 * Turns a table into a hypertable, partitioned by `timeColumn` into chunks of `chunkInterval`.
 * Does nothing if the table already is a hypertable, even if its chunk interval differs.
 * @throws ValidationError for an unknown table or column, or an interval that is not positive; TimescaleMissingError if
 * TimescaleDB is not enabled.
 */
export async function createHypertable(
  db: AnyDatabase,
  table: string,
  timeColumn: string,
  chunkInterval: Interval,
): Promise<void> {
  await checked(db, table, async () => {
    await requirePositive(db, { chunkInterval });
    await databaseOf(db).query(
      'SELECT create_hypertable($1::regclass, $2::name, chunk_time_interval => $3::interval, if_not_exists => true)',
      [quoteRelation(table), timeColumn, chunkInterval],
    );
  });
}

/**
 * Adds a policy that drops chunks of a hypertable or continuous aggregate when they are older than `dropAfter`.
 * @returns the id of the job.
 * @throws ValidationError for an unknown relation, an interval that is not positive, or an existing policy
 * with another interval, which a migration should change; TimescaleMissingError if TimescaleDB is not enabled.
 */
export async function addRetentionPolicy(
  db: AnyDatabase,
  relation: string,
  dropAfter: Interval,
): Promise<number> {
  return addPolicy(db, relation, 'retention', 'policy_retention', { drop_after: dropAfter });
}

export interface CompressionOptions {
  /** Rows with equal values in these columns are compressed together, e.g. `['device_id']`. Enables compression. */
  segmentBy?: readonly string[];
  /** Order of the rows within a segment, e.g. `['time DESC']`. Enables compression. */
  orderBy?: readonly string[];
}

/**
 * Adds a policy that compresses chunks older than `compressAfter`. `segmentBy` and `orderBy` enable
 * compression first; without them, it must already be enabled.
 * @returns the id of the job.
 * @throws ValidationError for an unknown relation or column, an interval that is not positive, or an existing
 * policy with another interval, which a migration should change; TimescaleMissingError if TimescaleDB is not enabled.
 */
export async function addCompressionPolicy(
  db: AnyDatabase,
  hypertable: string,
  compressAfter: Interval,
  { segmentBy = [], orderBy = [] }: CompressionOptions = {},
): Promise<number> {
  if (segmentBy.length + orderBy.length > 0) {
    const setting = (name: string, columns: readonly string[], pattern: RegExp) => {
      const wrong = columns.find((column) => !pattern.test(column));
      if (wrong !== undefined) throw new ValidationError(`"${wrong}" is not a column for ${name}.`);
      return columns.length > 0
        ? `, timescaledb.compress_${name.toLowerCase()} = '${columns.join(', ')}'`
        : '';
    };
    const options =
      setting('segmentBy', segmentBy, /^[a-z_][a-z0-9_]*$/i) +
      setting('orderBy', orderBy, /^[a-z_][a-z0-9_]*( (ASC|DESC))?( NULLS (FIRST|LAST))?$/i);
    await checked(db, hypertable, async () => {
      await requirePositive(db, { compress_after: compressAfter });
      await databaseOf(db).query(
        `ALTER TABLE ${quoteRelation(hypertable)} SET (timescaledb.compress${options})`,
      );
    });
  }
  return addPolicy(db, hypertable, 'compression', 'policy_compression', { compress_after: compressAfter });
}

export interface RefreshPolicy {
  /** How far back each refresh reaches. Keep it well below the retention of the raw data. */
  startOffset: Interval;
  /** How much of the newest data is not refreshed, but computed when the aggregate is read. */
  endOffset: Interval;
  /** How often the refresh runs. */
  scheduleInterval: Interval;
}

/**
 * Adds a policy that refreshes a continuous aggregate on a schedule. An aggregate can have several such
 * policies if their windows do not overlap. If a policy with this window exists, its schedule is not changed.
 * @returns the id of the job.
 * @throws ValidationError for an unknown view, an interval that is not positive, or an existing policy with
 * an overlapping window, which a migration should change; TimescaleMissingError if TimescaleDB is not enabled.
 */
export async function addContinuousAggregatePolicy(
  db: AnyDatabase,
  view: string,
  { startOffset, endOffset, scheduleInterval }: RefreshPolicy,
): Promise<number> {
  return addPolicy(db, view, 'continuous_aggregate', 'policy_refresh_continuous_aggregate', {
    start_offset: startOffset,
    end_offset: endOffset,
    schedule_interval: scheduleInterval,
  });
}

/**
 * Computes a continuous aggregate again, for the buckets that lie completely in `[from, to)`. Never refresh a range
 * whose raw data was dropped, because that deletes its summary.
 * @throws ValidationError in a transaction, where TimescaleDB cannot refresh, or for an empty range or unknown view;
 * TimescaleMissingError if TimescaleDB is not enabled.
 */
export async function refreshContinuousAggregate(
  db: AnyDatabase,
  view: string,
  { from, to }: { from: Date; to: Date },
): Promise<void> {
  if (databaseOf(db) instanceof Transaction) {
    throw new ValidationError(
      'refreshContinuousAggregate cannot run in a transaction: call it with the pool, after the commit.',
    );
  }
  if (Number.isNaN(from.getTime()) || Number.isNaN(to.getTime()) || from >= to) {
    throw new ValidationError('refreshContinuousAggregate needs a "from" that lies before its "to".');
  }
  await checked(db, view, () =>
    databaseOf(db).query(
      'CALL refresh_continuous_aggregate($1::regclass, $2::timestamptz, $3::timestamptz)',
      [quoteRelation(view), from, to],
    ),
  );
}

async function addPolicy(
  db: AnyDatabase,
  relation: string,
  policy: string,
  procedure: string,
  intervals: Readonly<Record<string, Interval>>,
): Promise<number> {
  const options = Object.keys(intervals).map((name, place) => `${name} => $${place + 2}::interval`);
  return checked(db, relation, async () => {
    await requirePositive(db, intervals);
    const { rows } = await databaseOf(db).query<{ job: number }>(
      `SELECT add_${policy}_policy($1::regclass, ${options.join(', ')}, if_not_exists => true) AS job`,
      [quoteRelation(relation), ...Object.values(intervals)],
    );
    const job = rows[0]?.job ?? 0;
    return job > 0 ? job : existingJob(db, relation, procedure, intervals);
  });
}

// TimescaleDB returns -1 if a policy exists, and only warns if its arguments differ.
async function existingJob(
  db: AnyDatabase,
  relation: string,
  procedure: string,
  { schedule_interval: _, ...intervals }: Readonly<Record<string, Interval>>,
): Promise<number> {
  const { rows } = await databaseOf(db).primary.query<{
    job_id: number;
    config: Record<string, string>;
    same: boolean;
  }>(
    `SELECT j.job_id, j.config,
       (SELECT bool_and((j.config->>key)::interval = value::interval) FROM jsonb_each_text($3::jsonb)) AS same
     FROM ${policyJobs} AS j
     WHERE j.proc_name = $2 AND $1::regclass = format('%I.%I', j.schema, j.relation)::regclass
     ORDER BY same DESC`,
    [quoteRelation(relation), procedure, intervals],
  );
  const [job] = rows;
  if (!job) throw new ValidationError(`"${relation}" has no ${procedure}, and TimescaleDB added none.`);
  if (!job.same) {
    const found = Object.keys(intervals).map((name) => `${name} ${job.config[name]}`);
    throw new ValidationError(
      `"${relation}" has this policy already, with ${found.join(', ')} (job ${job.job_id}): change it in a migration.`,
    );
  }
  return job.job_id;
}

async function requirePositive(
  db: AnyDatabase,
  intervals: Readonly<Record<string, Interval>>,
): Promise<void> {
  for (const [name, interval] of Object.entries(intervals)) {
    try {
      const { rows } = await databaseOf(db).primary.query<{ positive: boolean }>(
        "SELECT $1::interval > interval '0' AS positive",
        [interval],
      );
      if (rows[0]?.positive) continue;
    } catch (error) {
      if (!['22007', '22008', '22015'].includes(sqlState(error) ?? '')) throw error;
    }
    throw new ValidationError(
      `${name} is "${interval}": use a positive interval such as "7 days" or "1 hour".`,
    );
  }
}

async function checked<Result>(
  db: AnyDatabase,
  relation: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const state = sqlState(error) ?? '';
    // 42883 undefined_function, 3F000 invalid_schema_name.
    if (['42883', '3F000'].includes(state)) {
      throw new TimescaleMissingError(
        `TimescaleDB is not enabled in ${databaseOf(db).name}: call enableTimescaleDB, or run "npm run db:migrate".`,
        { cause: error },
      );
    }
    if (state === '42P01') {
      throw new ValidationError(`There is no relation "${relation}" in ${databaseOf(db).name}.`, {
        cause: error,
      });
    }
    // Undefined column, invalid value, wrong kind or state of an object, unsupported feature, TimescaleDB's own states.
    if (['42703', '22023', '42809', '0A000', '55000', '42P16', 'TS001', 'TS101'].includes(state)) {
      throw new ValidationError(`TimescaleDB refuses "${relation}" of ${databaseOf(db).name}: ${message}.`, {
        cause: error,
      });
    }
    throw error;
  }
}
