// Backfill: streams points into location_events at the speed of COPY, in flat memory, as one transaction.
import { trackingPolicies } from '../../../schema/tracking.ts';
import { copyFrom } from '../../driver/copy.ts';
import { liftTimeouts } from '../../driver/timeouts.ts';
import { sqlState } from '../../errors.ts';
import { type Database, Pool } from '../../pool.ts';
import { readTimescale } from '../../timescale/catalog.ts';
import { isOlder } from '../../timescale/timescale.ts';
import { type Transaction, withTransaction } from '../../transaction.ts';
import type { LocationInput } from '../columns.ts';
import type { TimeRange } from '../history.ts';
import { milliseconds } from '../interval.ts';
import { appendLocations, takesCopy } from '../record.ts';
import { copyStatement, encodeCopy } from '../rows.ts';
import { checkLimits, checkValues, locationLimits, type ZeroPositionOption } from '../validate.ts';
import { type LocationDefaults, type LocationFormat, parseLocations } from './parse.ts';
import { refreshHours } from './refresh.ts';

/** Points, or text to read them from: a file's stream, for example. */
export type LocationSource =
  | AsyncIterable<LocationInput>
  | Iterable<LocationInput>
  | {
      format: LocationFormat;
      stream: AsyncIterable<string | Uint8Array>;
      /** What rows get where the text says nothing. */
      defaults?: LocationDefaults;
    };

export interface ImportReject {
  /** Line of the text, from 1, or place among the points, from 0. */
  position: number;
  reason: string;
  /** The line as it was; none for points that were not text. */
  text?: string;
  /** The same, where it is no UTF-8 and `text` therefore not what stood there. */
  bytes?: Uint8Array;
}

export interface ImportOptions extends ZeroPositionOption {
  /** Moves every point in time, in milliseconds. Default 0. */
  shiftMs?: number;
  /** For each point that does not fit; all others are loaded. A promise is waited for. Default: it is counted. */
  onReject?: (reject: ImportReject) => unknown;
  /** The header line of CSV as it stood, before any row. */
  onHeader?: (header: string) => void;
  onProgress?: (loaded: number) => void;
  /** After the last row and before the commit: what it throws undoes the import. */
  beforeCommit?: () => Promise<void>;
}

export interface ImportResult {
  loaded: number;
  rejected: number;
  /** Time of the oldest and of the newest loaded point. */
  from: Date | null;
  to: Date | null;
  /** Loaded points that the retention policy drops at its next run; their hours are not kept. */
  olderThanRetention: number;
  /** Points that went straight into compressed chunks. */
  compressed: number;
  /** Line of the last point where CSV ends inside a number, without a line break: digits may be missing. */
  unendedLine: number | null;
  /** Ranges of `location_hourly` that were refreshed. The rest is left to the refresh policies. */
  refreshed: TimeRange[];
  /** Why the refresh failed: the hours are left to the refresh policies. */
  refreshError?: unknown;
}

const hour = 3_600_000;
const day = 24 * hour;
const { retention, compression } = trackingPolicies.location_events;
/** Points that are held back until they make a COPY of their own, compressed or not: about 40 MB. */
const rowsPerDirectCopy = 100_000;
const rowsPerInsert = 5_000;

/**
 * Loads points of any age, all that fit or, when it throws, none. Where TimescaleDB can (2.24 and
 * newer), days that are old enough to be compressed are written compressed. Afterwards it refreshes
 * the hours that it touched, inside of the raw retention; a transaction cannot, and a role that does not own
 * the aggregate may not: they leave the hours to the refresh policies.
 * @throws ValidationError for text whose header is wrong; nothing was loaded.
 */
export async function importLocations(
  db: Database,
  source: LocationSource,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const load = new Load(source, options);
  if (!(db instanceof Pool)) {
    await load.into(db as Transaction);
    return { ...load.result, refreshed: [] };
  }
  await withTransaction(db, async (transaction) => {
    await liftTimeouts(transaction);
    return load.into(transaction);
  });
  if (load.isBehindView) return { ...load.result, refreshed: [] };
  // The points are there: whatever happens to the refresh, a second import would double them.
  try {
    return { ...load.result, refreshed: await refreshHours(db, load.hours) };
  } catch (refreshError) {
    return { ...load.result, refreshed: [], ...(isExpected(refreshError) ? {} : { refreshError }) };
  }
}

// 42501: not the owner. Undefined function, or no such schema: no TimescaleDB, hence no aggregate.
const isExpected = (error: unknown) => ['42501', '42883', '3F000'].includes(sqlState(error) ?? '');

/** One run: reads, checks, counts. */
class Load {
  readonly #source: LocationSource;
  readonly #options: ImportOptions;
  readonly #limits;
  readonly #retentionStart = Date.now() - milliseconds(retention);
  /** Days that end before this are old enough to be compressed. */
  readonly #compressedBefore = Math.floor((Date.now() - milliseconds(compression.after)) / day) * day;
  readonly hours = new Set<number>();
  /** The role of an application, which owns no aggregate either. */
  isBehindView = false;
  #oldest = Number.POSITIVE_INFINITY;
  #newest = Number.NEGATIVE_INFINITY;
  #loaded = 0;
  #rejected = 0;
  #olderThanRetention = 0;
  #compressed = 0;
  #unendedLine: number | null = null;

  constructor(source: LocationSource, options: ImportOptions) {
    this.#source = source;
    this.#options = options;
    this.#limits = locationLimits({ ...options, anyAge: true });
  }

  get result(): Omit<ImportResult, 'refreshed'> {
    return {
      loaded: this.#loaded,
      rejected: this.#rejected,
      from: this.#loaded > 0 ? new Date(this.#oldest) : null,
      to: this.#loaded > 0 ? new Date(this.#newest) : null,
      olderThanRetention: this.#olderThanRetention,
      compressed: this.#compressed,
      unendedLine: this.#unendedLine,
    };
  }

  async into(transaction: Transaction): Promise<void> {
    this.isBehindView = !(await takesCopy(transaction));
    if (this.isBehindView) await this.#insert(transaction);
    else if (await compressesDirectly(transaction)) await this.#copyByAge(transaction);
    else await copyFrom(transaction, copyStatement, encodeCopy(this.#locations()));
    await this.#options.beforeCommit?.();
  }

  /** Old days and recent ones in turns: a COPY is either compressed or not. */
  async #copyByAge(transaction: Transaction): Promise<void> {
    let old: LocationInput[] = [];
    let recent: LocationInput[] = [];
    const flush = async (locations: LocationInput[], compressed: boolean) => {
      if (locations.length === 0) return;
      await transaction.query("SELECT set_config('timescaledb.enable_direct_compress_copy', $1, true)", [
        compressed ? 'on' : 'off',
      ]);
      await copyFrom(transaction, copyStatement, encodeCopy([locations]));
      if (compressed) this.#compressed += locations.length;
    };
    for await (const locations of this.#locations()) {
      for (const location of locations)
        (location.time.getTime() < this.#compressedBefore ? old : recent).push(location);
      if (old.length >= rowsPerDirectCopy) {
        await flush(old, true);
        old = [];
      }
      if (recent.length >= rowsPerDirectCopy) {
        await flush(recent, false);
        recent = [];
      }
      this.#options.onProgress?.(this.#loaded);
    }
    await flush(recent, false);
    await flush(old, true);
    await transaction.query("SELECT set_config('timescaledb.enable_direct_compress_copy', $1, true)", [
      'off',
    ]);
  }

  /** Through a view, which takes no COPY. */
  async #insert(transaction: Transaction): Promise<void> {
    let batch: LocationInput[] = [];
    for await (const locations of this.#locations()) {
      batch.push(...locations);
      if (batch.length < rowsPerInsert) continue;
      await appendLocations(transaction, batch);
      batch = [];
      this.#options.onProgress?.(this.#loaded);
    }
    await appendLocations(transaction, batch);
  }

  /** Points that fit, moved in time and counted. */
  #locations(): AsyncGenerator<LocationInput[]> {
    return 'stream' in this.#source ? this.#fromText(this.#source) : this.#fromPoints(this.#source);
  }

  async *#fromText({
    stream,
    format,
    defaults,
  }: Extract<LocationSource, { stream: unknown }>): AsyncGenerator<LocationInput[]> {
    for await (const lines of parseLocations(stream, format, defaults, this.#options.onHeader)) {
      const locations: LocationInput[] = [];
      for (const parsed of lines) {
        const checked = 'location' in parsed ? this.#check(parsed.location) : parsed.reason;
        if (typeof checked !== 'string') {
          locations.push(checked);
          if ('mayBeCut' in parsed && parsed.mayBeCut) this.#unendedLine = parsed.line;
        } else {
          const { line: position, text } = parsed;
          const bytes = 'bytes' in parsed && parsed.bytes ? { bytes: parsed.bytes } : {};
          await this.#reject({ position, reason: checked, text, ...bytes });
        }
      }
      yield locations;
    }
  }

  async *#fromPoints(
    points: AsyncIterable<LocationInput> | Iterable<LocationInput>,
  ): AsyncGenerator<LocationInput[]> {
    let position = -1;
    let locations: LocationInput[] = [];
    for await (const point of points) {
      position += 1;
      const valid = checkValues(point);
      const checked = typeof valid === 'string' ? valid : this.#check(valid);
      if (typeof checked === 'string') await this.#reject({ position, reason: checked });
      else locations.push(checked);
      if (locations.length < rowsPerInsert) continue;
      yield locations;
      locations = [];
    }
    yield locations;
  }

  /** A point whose values fit: its time, once moved, must be one that may be stored. */
  #check(point: LocationInput): LocationInput | string {
    const { shiftMs = 0 } = this.#options;
    const location = shiftMs === 0 ? point : { ...point, time: new Date(point.time.getTime() + shiftMs) };
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

  #reject(reject: ImportReject): unknown {
    this.#rejected += 1;
    return this.#options.onReject?.(reject);
  }
}

/** Whether COPY may write compressed chunks here: TimescaleDB below 2.24 refuses it beside a continuous aggregate. */
async function compressesDirectly(db: Database): Promise<boolean> {
  const timescale = await readTimescale(db);
  return timescale !== undefined && !isOlder(timescale.version, '2.24');
}
