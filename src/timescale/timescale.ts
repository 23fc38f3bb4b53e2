// TimescaleDB's functions, idempotent and checked: hypertables, policies, continuous aggregates.
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
 * Enables TimescaleDB in the database. Does nothing where it is enabled already.
 * @throws TimescaleMissingError when the server does not offer it, has not loaded it, or has a version that is too old.
 */
export async function enableTimescaleDB(db: AnyDatabase): Promise<void> {
  await requireTimescale(db);
  await databaseOf(db).query('CREATE EXTENSION IF NOT EXISTS timescaledb CASCADE');
}

/**
 * Call it before CREATE EXTENSION, which ends the session on a server where TimescaleDB is installed but not loaded.
 * @throws TimescaleMissingError with what to do.
 */
export async function requireTimescale(db: AnyDatabase): Promise<void> {
  // The settings exist where the library is loaded. Few roles may read shared_preload_libraries itself.
  const { rows } = await databaseOf(db).query<{
    version: string | null;
    isLoaded: boolean;
    libraries: string | null;
  }>(
    `SELECT (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'timescaledb') AS version,
       EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name LIKE 'timescaledb.%') AS "isLoaded",
       (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries') AS libraries`,
  );
  const { version = null, isLoaded = false, libraries = null } = rows[0] ?? {};
  const problem = describeMissing({ version, isLoaded, libraries });
  if (problem) throw new TimescaleMissingError(`The server of ${databaseOf(db).name} ${problem}`);
}

/** Why a database cannot use TimescaleDB, and what to do; undefined where it can. */
export function describeMissing(server: {
  version: string | null;
  isLoaded: boolean;
  libraries: string | null;
}): string | undefined {
  const { version, isLoaded, libraries } = server;
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

/** Compares numbers part by part: 2.9 is older than 2.23. */
export function isOlder(version: string, than: string): boolean {
  const [one, other] = [version, than].map((text) => (text.match(/\d+/g) ?? []).map(Number)) as [
    number[],
    number[],
  ];
  for (const [index, part] of other.entries()) {
    if ((one[index] ?? 0) !== part) return (one[index] ?? 0) < part;
  }
  return false;
}

/**
 * Turns a table into a hypertable, partitioned by `timeColumn` into chunks of `chunkInterval`.
 * Does nothing where it is one already; its chunk interval stays as it was.
 * @throws ValidationError for an unknown table or column, or an interval that is not positive.
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
 * Drops chunks older than `dropAfter`, of a hypertable or of a continuous aggregate.
 * @returns the id of the job.
 * @throws ValidationError when a policy with another interval exists: a migration should change it.
 */
export async function addRetentionPolicy(
  db: AnyDatabase,
  relation: string,
  dropAfter: Interval,
): Promise<number> {
  return addPolicy(db, relation, 'retention', 'policy_retention', { drop_after: dropAfter });
}

export interface CompressionOptions {
  /** Columns whose equal values are compressed together, e.g. `['device_id']`. Enables compression. */
  segmentBy?: readonly string[];
  /** Order inside of a segment, e.g. `['time DESC']`. Enables compression. */
  orderBy?: readonly string[];
}

/**
 * Compresses chunks older than `compressAfter`. With `segmentBy` or `orderBy` it enables
 * compression first; without, the hypertable must have it enabled.
 * @returns the id of the job.
 * @throws ValidationError when a policy with another interval exists: a migration should change it.
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
    await checked(db, hypertable, () =>
      databaseOf(db).query(`ALTER TABLE ${quoteRelation(hypertable)} SET (timescaledb.compress${options})`),
    );
  }
  return addPolicy(db, hypertable, 'compression', 'policy_compression', { compress_after: compressAfter });
}

export interface RefreshPolicy {
  /** How far back each refresh reaches. Keep it well below the raw data's retention. */
  startOffset: Interval;
  /** How much of the newest data is left to the real-time part of the aggregate. */
  endOffset: Interval;
  /** How often the refresh runs. */
  scheduleInterval: Interval;
}

/**
 * Refreshes a continuous aggregate on a schedule. One may have several policies whose windows do not overlap.
 * @returns the id of the job.
 * @throws ValidationError when a policy with an overlapping window exists: a migration should change it.
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
 * Computes a continuous aggregate again for `[from, to)`, widened by PostgreSQL to whole buckets
 * inside of it. Never refresh a range whose raw data was dropped: that deletes its summary.
 * @throws ValidationError inside of a transaction, where TimescaleDB cannot refresh.
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

// TimescaleDB answers -1 where a policy exists, and only warns when its arguments differ.
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
    // Undefined function, or a view of timescaledb_information that does not exist.
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
    // Undefined column, wrong type or object, invalid value, TimescaleDB's own states.
    if (['42703', '22023', '42809', '0A000', '55000', '42P16', 'TS001', 'TS101'].includes(state)) {
      throw new ValidationError(`TimescaleDB refuses "${relation}" of ${databaseOf(db).name}: ${message}.`, {
        cause: error,
      });
    }
    throw error;
  }
}
