// Backfill: streams locations into location_events with COPY, in constant memory and in one transaction.
import { trackingPolicies } from '../../../schema/tracking.ts';
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
import { encodeRow } from '../rows.ts';
import {
  acceptsTime,
  checkLimits,
  checkValues,
  locationLimits,
  type ZeroPositionOption,
} from '../validate.ts';
import { CopyByAge } from './copy-by-age.ts';
import type { LocationFormat } from './dialect.ts';
import { readLine, wholeLines } from './lines.ts';
import {
  type ImportReject,
  LineReader,
  type ParsedLocation,
  type ParseOptions,
  parseLocations,
} from './parse.ts';
import { plainRows } from './plain-rows.ts';
import { refreshHours } from './refresh.ts';

/** Locations, or text from which to read them, such as the stream of a file. */
export type LocationSource = AsyncIterable<LocationInput> | Iterable<LocationInput> | LocationText;

interface LocationText extends ParseOptions {
  format: LocationFormat;
  stream: AsyncIterable<string | Uint8Array>;
}

export interface ImportOptions extends ZeroPositionOption {
  /** Milliseconds that are added to the time of every location. Default 0. */
  shiftMs?: number;
  /** Called and awaited for each invalid location. The other locations are loaded. */
  onReject?: (reject: ImportReject) => unknown;
  /** Skips locations that are already stored, compared by device and time. Slower, because it cannot use COPY. */
  once?: boolean;
  /** Called after each batch with the number of valid locations so far, including those that `once` skips. */
  onProgress?: (loaded: number) => void;
  /** Called after the last row, before the commit. If it throws, the import is rolled back. */
  beforeCommit?: () => Promise<void>;
}

export interface ImportResult {
  loaded: number;
  rejected: number;
  /** Times of the oldest (`from`) and newest (`to`) valid location. Null if none was loaded. */
  from: Date | null;
  to: Date | null;
  /**
   * Valid locations older than the raw retention. The retention policy drops them with their chunk, and they
   * are not summarised in `location_hourly`.
   */
  olderThanRetention: number;
  /** With `once`: locations that were skipped, because they were already stored or came twice. Not in `loaded`. */
  alreadyStored: number;
  /** Locations that were written to compressed chunks directly. */
  compressed: number;
  /** Line of the last location, if the CSV ends after a digit or point, without a line break. Digits may be missing. */
  unendedLine: number | null;
  /** Refreshed ranges of `location_hourly`. Empty if the refresh failed; the refresh policies repeat it later. */
  refreshed: TimeRange[];
  /** The error of a refresh that failed. */
  refreshError?: unknown;
}

const hour = 3_600_000;
const day = 24 * hour;
const { retention, compression } = trackingPolicies.location_events;
const rowsPerBatch = 5_000;
/** Small, so that rows become garbage before the collector moves them to the old generation. */
const rowsPerCheck = 500;

/**
 * Loads the valid locations of any age, all or none. From TimescaleDB 2.24 on, days that are old enough for the
 * compression policy are written in compressed form. After the commit, it refreshes the changed hours within the raw
 * retention. In a caller's transaction, or for a role that does not own the aggregate, the refresh policies do this.
 * @throws ValidationError for an invalid time zone, column mapping or default, a wrong header, a line that is too long,
 * or text in another format.
 */
export async function importLocations(
  given: AnyDatabase,
  source: LocationSource,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const db = databaseOf(given);
  const load = new Load(source, options, db.foreignSources);
  if (!(db instanceof Pool)) {
    await load.into(db as Transaction);
    return load.result;
  }
  await withTransaction(db, async (transaction) => {
    await liftTimeouts(transaction);
    return load.into(transaction);
  });
  if (load.isBehindView) return load.result;
  // The locations are committed, so a failed refresh must not throw: the caller would import them again.
  try {
    return { ...load.result, refreshed: await refreshHours(db, load.hours) };
  } catch (refreshError) {
    return isExpected(refreshError) ? load.result : { ...load.result, refreshError };
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
  /** Locations before this time, in milliseconds since 1970, are written in compressed form. */
  #compressedBefore = Number.NEGATIVE_INFINITY;
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

  constructor(source: LocationSource, options: ImportOptions, foreignSources: readonly string[]) {
    this.#source = source;
    this.#options = options;
    this.#limits = locationLimits({ ...options, anyAge: true, foreignSources });
  }

  get result(): ImportResult {
    return {
      loaded: this.#loaded - this.#alreadyStored,
      alreadyStored: this.#alreadyStored,
      rejected: this.#rejected,
      from: this.#loaded > this.#alreadyStored ? new Date(this.#oldest) : null,
      to: this.#loaded > this.#alreadyStored ? new Date(this.#newest) : null,
      olderThanRetention: this.#olderThanRetention,
      compressed: this.#compressed,
      unendedLine: this.#unendedLine,
      refreshed: [],
    };
  }

  async into(transaction: Transaction): Promise<void> {
    this.isBehindView = !(await takesCopy(transaction));
    if (this.isBehindView || this.#options.once) await this.#insert(transaction);
    else await this.#copy(transaction);
    await this.#options.beforeCommit?.();
  }

  async #copy(transaction: Transaction): Promise<void> {
    // The start of a UTC day. All earlier days are old enough to be compressed.
    if (await compressesDirectly(transaction))
      this.#compressedBefore = Math.floor((Date.now() - milliseconds(compression.after)) / day) * day;
    const copy = new CopyByAge(this.#compressedBefore);
    const source = this.#source;
    const isCsv = 'stream' in source && source.format === 'csv';
    await copy.run(transaction, isCsv ? this.#encodeCsv(source, copy) : this.#encodeLocations(copy));
  }

  async *#encodeLocations(copy: CopyByAge): AsyncGenerator<void> {
    for await (const locations of this.#locations()) {
      for (const location of locations) encodeRow(copy.bufferFor(location.time.getTime()), location);
      yield;
    }
  }

  /** Encodes plain rows from their bytes. `LineReader` reads the other lines. */
  async *#encodeCsv(source: LocationText, copy: CopyByAge): AsyncGenerator<void> {
    const { shiftMs = 0, onProgress } = this.#options;
    const target = {
      bufferFor: (time: number) => (acceptsTime(time, this.#limits) ? copy.bufferFor(time) : undefined),
      count: (time: number) => this.#count(time),
      foreignSources: this.#limits.foreignSources,
    };
    const reader = new LineReader('csv', source);
    let plain: ReturnType<typeof plainRows>;
    for await (const { bytes, isUnended } of wholeLines(source.stream)) {
      let start = 0;
      while (start < bytes.length) {
        if (plain) {
          const { rows, end } = plain.encode(bytes, start);
          reader.position += rows;
          start = end;
          if (start === bytes.length) break;
        }
        const { text, broken, end } = readLine(bytes, start);
        const parsed = reader.read(text, broken, isUnended);
        if (parsed) {
          const location = this.#accept(parsed);
          if (typeof location === 'string') await this.#reject(parsed, location);
          else encodeRow(copy.bufferFor(location.time.getTime()), location);
        } else if (reader.layout) plain ??= plainRows(reader.layout, shiftMs, target);
        start = end;
      }
      yield;
      onProgress?.(this.#loaded);
    }
  }

  /**
   * Inserts in batches instead of COPY. An application's view does not support COPY. With `once`, each batch must see
   * the rows of earlier batches.
   */
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
    const { onProgress } = this.#options;
    const batches =
      'stream' in source ? parseLocations(source.stream, source.format, source) : checkBatches(source);
    for await (const batch of batches) {
      const locations: LocationInput[] = [];
      for (const parsed of batch) {
        const location = this.#accept(parsed);
        if (typeof location === 'string') await this.#reject(parsed, location);
        else locations.push(location);
      }
      yield locations;
      onProgress?.(this.#loaded);
    }
  }

  /** Moves a location in time, checks its limits and counts it. @returns the moved location, or why it is not valid. */
  #accept(parsed: ParsedLocation): LocationInput | string {
    if (!('location' in parsed)) return parsed.reason;
    const { shiftMs = 0 } = this.#options;
    const given = parsed.location;
    const location = shiftMs === 0 ? given : { ...given, time: new Date(given.time.getTime() + shiftMs) };
    const reason = checkLimits(location, this.#limits);
    if (reason !== undefined) return reason;
    this.#count(location.time.getTime());
    if (parsed.mayBeCut) this.#unendedLine = parsed.position;
    return location;
  }

  async #reject(parsed: ParsedLocation, reason: string): Promise<void> {
    this.#rejected += 1;
    await this.#options.onReject?.(rejectOf(parsed, reason));
  }

  #count(time: number): void {
    this.#loaded += 1;
    this.#oldest = Math.min(this.#oldest, time);
    this.#newest = Math.max(this.#newest, time);
    if (time < this.#compressedBefore) this.#compressed += 1;
    if (time < this.#retentionStart) this.#olderThanRetention += 1;
    else this.hours.add(time - (time % hour));
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
  let position = -1;
  const check = (given: LocationInput): ParsedLocation => {
    position += 1;
    const checked = checkValues(given);
    return typeof checked === 'string' ? { position, reason: checked } : { position, location: checked };
  };
  // Awaiting each element of an array would take as long as checking it.
  if (Array.isArray(source)) {
    for (let start = 0; start < source.length; start += rowsPerCheck)
      yield source.slice(start, start + rowsPerCheck).map(check);
    return;
  }
  let batch: ParsedLocation[] = [];
  for await (const given of source) {
    batch.push(check(given));
    if (batch.length < rowsPerCheck) continue;
    yield batch;
    batch = [];
  }
  yield batch;
}

/** Whether a COPY can compress rows. Before TimescaleDB 2.24, a hypertable with a continuous aggregate refuses this. */
async function compressesDirectly(db: Database): Promise<boolean> {
  const timescale = await readTimescale(db);
  return timescale !== undefined && !isOlder(timescale.version, '2.24');
}
