// Backfill: streams locations into location_events with COPY, in constant memory and in one transaction.
import { trackingPolicies } from '../../../schema/tracking.ts';
import { copyFrom } from '../../driver/copy.ts';
import { liftTimeouts } from '../../driver/timeouts.ts';
import { sqlState } from '../../errors.ts';
import { type AnyDatabase, type Database, databaseOf, Pool } from '../../pool.ts';
import { readTimescale } from '../../timescale/catalog.ts';
import { isOlder } from '../../timescale/timescale.ts';
import { type Transaction, withTransaction } from '../../transaction.ts';
import type { LocationInput } from '../columns.ts';
import type { TimeRange } from '../history.ts';
import { milliseconds } from '../interval.ts';
import { appendLocations, appendNewLocations, takesCopy } from '../record.ts';
import { copyStatement, encodeCopy } from '../rows.ts';
import { checkLimits, checkValues, locationLimits, type ZeroPositionOption } from '../validate.ts';
import type { LocationFormat } from './dialect.ts';
import { type ImportReject, type ParsedLocation, type ParseOptions, parseLocations } from './parse.ts';
import { refreshHours } from './refresh.ts';

/** Locations, or text from which to read them, such as the stream of a file. */
export type LocationSource =
  | AsyncIterable<LocationInput>
  | Iterable<LocationInput>
  | ({
      format: LocationFormat;
      stream: AsyncIterable<string | Uint8Array>;
    } & ParseOptions);

export interface ImportOptions extends ZeroPositionOption {
  /** Milliseconds that are added to the time of every location. Default 0. */
  shiftMs?: number;
  /** Called and awaited for each invalid location. The other locations are loaded. */
  onReject?: (reject: ImportReject) => unknown;
  /** Leaves out locations that are stored already: of the same device at the same time. Slower than COPY. */
  once?: boolean;
  onProgress?: (loaded: number) => void;
  /** Called after the last row, before the commit. If it throws, the import is rolled back. */
  beforeCommit?: () => Promise<void>;
}

export interface ImportResult {
  loaded: number;
  rejected: number;
  /** Times of the oldest (`from`) and newest (`to`) loaded location. Null if none was loaded. */
  from: Date | null;
  to: Date | null;
  /**
   * Loaded locations older than the raw retention. The retention policy drops them with their chunk, and they
   * are not summarised in `location_hourly`.
   */
  olderThanRetention: number;
  /** With `once`: locations that were stored before, or came twice. They count as loaded no more. */
  alreadyStored: number;
  /** Locations that were written to compressed chunks directly. */
  compressed: number;
  /**
   * Line of the last location, if CSV ends with a digit or a point and no line break: digits may be missing.
   */
  unendedLine: number | null;
  /** Refreshed ranges of `location_hourly`, none if the refresh failed. The refresh policies do the rest. */
  refreshed: TimeRange[];
  /** The error of a refresh that failed. The refresh policies refresh the hours later. */
  refreshError?: unknown;
}

const hour = 3_600_000;
const day = 24 * hour;
const { retention, compression } = trackingPolicies.location_events;
/** Locations that are collected for one COPY, when days are compressed directly: about 40 MB. */
const rowsPerDirectCopy = 100_000;
const rowsPerBatch = 5_000;

/**
 * Loads all valid locations of any age. If it throws, none is loaded. TimescaleDB 2.24 and newer writes days
 * that are old enough in compressed form. After the commit, the changed hours within the raw retention are
 * refreshed, except in a caller's transaction or for a role that does not own the aggregate: then the refresh
 * policies do it.
 * @throws ValidationError for text with a wrong header, an invalid default or a line that is too long.
 */
export async function importLocations(
  given: AnyDatabase,
  source: LocationSource,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const load = new Load(source, options);
  const db = databaseOf(given);
  if (!(db instanceof Pool)) {
    await load.into(db as Transaction);
    return { ...load.result, refreshed: [] };
  }
  await withTransaction(db, async (transaction) => {
    await liftTimeouts(transaction);
    return load.into(transaction);
  });
  if (load.isBehindView) return { ...load.result, refreshed: [] };
  // The locations are committed, so a failed refresh must not throw: the caller would import them again.
  try {
    return { ...load.result, refreshed: await refreshHours(db, load.hours) };
  } catch (refreshError) {
    return { ...load.result, refreshed: [], ...(isExpected(refreshError) ? {} : { refreshError }) };
  }
}

// 42501: the role is not the owner. 42883 undefined_function and 3F000 invalid_schema_name: no TimescaleDB,
// and hence no aggregate.
const isExpected = (error: unknown) => ['42501', '42883', '3F000'].includes(sqlState(error) ?? '');

/** One import: reads, checks, counts and writes the locations. */
class Load {
  readonly #source: LocationSource;
  readonly #options: ImportOptions;
  readonly #limits;
  readonly #retentionStart = Date.now() - milliseconds(retention);
  /** Start of a UTC day. The days before it are old enough to be compressed. */
  readonly #compressedBefore = Math.floor((Date.now() - milliseconds(compression.after)) / day) * day;
  readonly hours = new Set<number>();
  /** Whether the role writes through a view. Such a role does not own the aggregate and cannot refresh it. */
  isBehindView = false;
  #oldest = Number.POSITIVE_INFINITY;
  #newest = Number.NEGATIVE_INFINITY;
  #loaded = 0;
  #rejected = 0;
  #olderThanRetention = 0;
  #alreadyStored = 0;
  #compressed = 0;
  #unendedLine: number | null = null;

  constructor(source: LocationSource, options: ImportOptions) {
    this.#source = source;
    this.#options = options;
    this.#limits = locationLimits({ ...options, anyAge: true });
  }

  get result(): Omit<ImportResult, 'refreshed'> {
    return {
      loaded: this.#loaded - this.#alreadyStored,
      alreadyStored: this.#alreadyStored,
      rejected: this.#rejected,
      from: this.#loaded > this.#alreadyStored ? new Date(this.#oldest) : null,
      to: this.#loaded > this.#alreadyStored ? new Date(this.#newest) : null,
      olderThanRetention: this.#olderThanRetention,
      compressed: this.#compressed,
      unendedLine: this.#unendedLine,
    };
  }

  async into(transaction: Transaction): Promise<void> {
    this.isBehindView = !(await takesCopy(transaction));
    if (this.isBehindView || this.#options.once) await this.#insert(transaction);
    else if (await compressesDirectly(transaction)) await this.#copyByAge(transaction);
    else await copyFrom(transaction, copyStatement, encodeCopy(this.#locations()));
    await this.#options.beforeCommit?.();
  }

  /** Copies old and recent days separately, because one COPY compresses either all of its rows or none. */
  async #copyByAge(transaction: Transaction): Promise<void> {
    const waiting: Record<'on' | 'off', LocationInput[]> = { on: [], off: [] };
    const compress = (setting: 'on' | 'off') =>
      transaction.query("SELECT set_config('timescaledb.enable_direct_compress_copy', $1, true)", [setting]);
    const copy = async (setting: 'on' | 'off') => {
      const locations = waiting[setting];
      waiting[setting] = [];
      if (locations.length === 0) return;
      await compress(setting);
      await copyFrom(transaction, copyStatement, encodeCopy([locations]));
      if (setting === 'on') this.#compressed += locations.length;
    };
    for await (const locations of this.#locations()) {
      for (const location of locations)
        waiting[location.time.getTime() < this.#compressedBefore ? 'on' : 'off'].push(location);
      if (waiting.on.length >= rowsPerDirectCopy) await copy('on');
      if (waiting.off.length >= rowsPerDirectCopy) await copy('off');
    }
    await copy('off');
    await copy('on');
    await compress('off');
  }

  /** Into a view, which does not support COPY; and one batch after the other, so that each sees those before it. */
  async #insert(transaction: Transaction): Promise<void> {
    const write = async (locations: LocationInput[]) => {
      if (!this.#options.once) return appendLocations(transaction, locations);
      this.#alreadyStored += locations.length - (await appendNewLocations(transaction, locations));
    };
    let batch: LocationInput[] = [];
    for await (const locations of this.#locations()) {
      batch.push(...locations);
      if (batch.length < rowsPerBatch) continue;
      await write(batch);
      batch = [];
    }
    await write(batch);
  }

  /** Yields the valid locations, moved in time and counted. Reports the others to `onReject`. */
  async *#locations(): AsyncGenerator<LocationInput[]> {
    const source = this.#source;
    const { onProgress, onReject } = this.#options;
    const batches =
      'stream' in source ? parseLocations(source.stream, source.format, source) : checkBatches(source);
    for await (const batch of batches) {
      const locations: LocationInput[] = [];
      for (const parsed of batch) {
        const checked = 'location' in parsed ? this.#accept(parsed.location) : parsed.reason;
        if (typeof checked === 'string') {
          this.#rejected += 1;
          await onReject?.(rejectOf(parsed, checked));
        } else {
          locations.push(checked);
          if ('mayBeCut' in parsed) this.#unendedLine = parsed.position;
        }
      }
      yield locations;
      onProgress?.(this.#loaded);
    }
  }

  /**
   * Moves a location in time, checks its limits and counts it. @returns it, or the reason why it is not
   * valid.
   */
  #accept(given: LocationInput): LocationInput | string {
    const { shiftMs = 0 } = this.#options;
    const location = shiftMs === 0 ? given : { ...given, time: new Date(given.time.getTime() + shiftMs) };
    const reason = checkLimits(location, this.#limits);
    if (reason !== undefined) return reason;
    const at = location.time.getTime();
    this.#loaded += 1;
    this.#oldest = Math.min(this.#oldest, at);
    this.#newest = Math.max(this.#newest, at);
    if (at < this.#retentionStart) this.#olderThanRetention += 1;
    else this.hours.add(at - (at % hour));
    return location;
  }
}

function rejectOf(parsed: ParsedLocation, reason: string): ImportReject {
  if (!('location' in parsed)) return parsed;
  const { position, text } = parsed;
  return { position, reason, ...(text !== undefined && { text }) };
}

async function* checkBatches(
  source: AsyncIterable<LocationInput> | Iterable<LocationInput>,
): AsyncGenerator<ParsedLocation[]> {
  let position = 0;
  let batch: ParsedLocation[] = [];
  for await (const given of source) {
    const checked = checkValues(given);
    batch.push(typeof checked === 'string' ? { position, reason: checked } : { position, location: checked });
    position += 1;
    if (batch.length < rowsPerBatch) continue;
    yield batch;
    batch = [];
  }
  yield batch;
}

/** TimescaleDB older than 2.24 refuses compressed COPY into a hypertable that has a continuous aggregate. */
async function compressesDirectly(db: Database): Promise<boolean> {
  const timescale = await readTimescale(db);
  return timescale !== undefined && !isOlder(timescale.version, '2.24');
}
