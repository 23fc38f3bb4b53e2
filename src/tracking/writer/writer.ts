// A writer for services. It collects single locations in batches and writes each batch exactly once.
import { AtrizDatabaseError, ValidationError } from '../../errors.ts';
import type { Database, Pool } from '../../pool.ts';
import type { LocationInput } from '../columns.ts';
import {
  checkLocation,
  LocationsRejectedError,
  locationLimits,
  type ZeroPositionOption,
} from '../validate.ts';
import {
  type BatchFacts,
  type RetryFacts,
  WriterConnection,
  type WriterConnectionOptions,
} from './writer-connection.ts';

export type { BatchFacts, RetryFacts };

export interface LocationWriterOptions extends ZeroPositionOption {
  /** Number of connections that write at the same time. The pool needs at least as many. Default 2. */
  connections?: number;
  /** Maximum number of locations in a batch. A full batch is written without waiting. Default 5,000. */
  batchSize?: number;
  /** How long a location waits for others to join its batch, in milliseconds. Default 20. */
  maxWaitMs?: number;
  /** Maximum number of locations in memory; `write` refuses more. Default 250,000, about 200 MB plus their metadata. */
  maxPending?: number;
  /**
   * Longest pause before a retry, in milliseconds. It begins with `min` and doubles with each retry, up to `max`. The
   * actual pause is random, at least half of the longest pause. Default 100 and 10,000.
   */
  retryDelayMs?: { min: number; max: number };
  /** After this many milliseconds without an answer, an attempt is given up and retried. Default 60,000. */
  attemptTimeoutMs?: number;
  /** Called after each batch that was written. */
  onBatch?: (batch: BatchFacts) => void;
  /** Called before each retry, when its pause begins. */
  onRetry?: (retry: RetryFacts) => void;
  /** Called for each location whose promise is rejected. */
  onReject?: (location: LocationInput, error: unknown) => void;
}

export interface LocationWriterStats {
  /** Locations that are durable. */
  written: number;
  /** Locations whose promise was rejected: by `write`, because of a server error, or because the writer was closed. */
  rejected: number;
  /** Accepted locations that are not settled yet. */
  pending: number;
  batches: number;
  /** Number of retries, each after a pause. */
  retries: number;
  lastError: unknown;
}

/** The writer holds `maxPending` locations. Wait for `ready()`, or let the device try again later. */
export class LocationWriterFullError extends AtrizDatabaseError {
  override readonly name = 'LocationWriterFullError';
  override readonly code = 'WRITER_FULL';
}

/** The writer is closed, or was closed before the server confirmed that the location is stored. */
export class LocationWriterClosedError extends AtrizDatabaseError {
  override readonly name = 'LocationWriterClosedError';
  override readonly code = 'WRITER_CLOSED';
}

export interface LocationWriter {
  /**
   * Checks a location and keeps it in memory until it is stored or the server refuses its values. The promise
   * resolves when the location is durable: the server has confirmed its COMMIT, as `synchronous_commit`
   * defines it. Locations of one device are stored in the order of their writes.
   * @throws As a rejection: LocationsRejectedError, LocationWriterFullError or LocationWriterClosedError if
   * the location is not accepted; later, the server's error, the error of a closed pool, or
   * LocationWriterClosedError if `close` reaches its timeout.
   */
  write(location: LocationInput): Promise<void>;
  /** Resolves when fewer than `maxPending` locations are pending. Await it before a `write` that you do not await. */
  ready(): Promise<void>;
  /** Writes without waiting for more locations. Resolves when all locations accepted before this call are settled. */
  flush(): Promise<void>;
  /**
   * Stops accepting locations and waits until all are settled. Locations without an answer after `timeoutMs`
   * milliseconds (default 30,000) are rejected; a running attempt may still store them. The pool stays open.
   * @throws LocationWriterClosedError if locations were not confirmed in time; ValidationError for a `timeoutMs` out of
   * range.
   */
  close(options?: { timeoutMs?: number }): Promise<void>;
  readonly stats: LocationWriterStats;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Creates a writer. It uses no connection before the first location. A batch is one transaction that also advances a
 * number in `location_writers`. If the answer to a COMMIT is lost, the batch is sent again with the same number, and is
 * not stored twice. Before it is sent again, `pg_terminate_backend` ends a session that still works on it.
 * @throws ValidationError for an option out of range.
 */
export function createLocationWriter(db: Pool, options: LocationWriterOptions = {}): LocationWriter {
  return new PooledWriter(db, options);
}

const defaults = {
  connections: 2,
  batchSize: 5_000,
  maxWaitMs: 20,
  maxPending: 250_000,
  attemptTimeoutMs: 60_000,
};

class PooledWriter implements LocationWriter {
  readonly #connections: WriterConnection[];
  readonly #maxPending: number;
  readonly #allowed: ZeroPositionOption & Pick<Database, 'foreignSources'>;
  readonly #onReject: LocationWriterOptions['onReject'];
  readonly #counts = { accepted: 0, written: 0, refused: 0, failed: 0, batches: 0, retries: 0 };
  #lastError: unknown;
  #closing: Promise<void> | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(db: Pool, options: LocationWriterOptions) {
    const checked = checkOptions(options);
    this.#maxPending = checked.maxPending;
    this.#onReject = options.onReject;
    const { foreignSources } = db;
    this.#allowed = { allowZeroPosition: options.allowZeroPosition ?? false, foreignSources };
    const connectionOptions: WriterConnectionOptions = {
      ...checked,
      onBatch: (batch) => {
        this.#counts.batches += 1;
        this.#counts.written += batch.events;
        this.#settled();
        this.#tell(() => options.onBatch?.(batch));
      },
      onRetry: (retry) => {
        this.#counts.retries += 1;
        this.#lastError = retry.error;
        this.#tell(() => options.onRetry?.(retry));
      },
      onReject: (location, error) => {
        this.#counts.failed += 1;
        this.#lastError = error;
        this.#settled();
        this.#tell(() => options.onReject?.(location, error));
      },
    };
    this.#connections = Array.from(
      { length: checked.connections },
      () => new WriterConnection(db, connectionOptions),
    );
  }

  get stats(): LocationWriterStats {
    const { written, refused, failed, batches, retries } = this.#counts;
    return {
      written,
      rejected: refused + failed,
      pending: this.#pending,
      batches,
      retries,
      lastError: this.#lastError,
    };
  }

  get #pending(): number {
    const { accepted, written, failed } = this.#counts;
    return accepted - written - failed;
  }

  write(location: LocationInput): Promise<void> {
    if (this.#closing) return this.#refuse(location, new LocationWriterClosedError('The writer is closed.'));
    if (this.#pending >= this.#maxPending) {
      const message = `The writer holds ${this.#maxPending} locations and takes no more: await ready() before write().`;
      return this.#refuse(location, new LocationWriterFullError(message));
    }
    const checked = checkLocation(location, locationLimits(this.#allowed));
    if (typeof checked === 'string') {
      return this.#refuse(location, new LocationsRejectedError([{ index: 0, reason: checked }]));
    }
    this.#counts.accepted += 1;
    return this.#handled(this.#connectionOf(checked.deviceId).add(checked));
  }

  async ready(): Promise<void> {
    while (this.#pending >= this.#maxPending) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async flush(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.flush()));
  }

  async close({ timeoutMs = 30_000 } = {}): Promise<void> {
    checkNumber('timeoutMs', timeoutMs, 0);
    this.#closing ??= this.#drain(timeoutMs);
    await this.#closing;
  }

  async #drain(timeoutMs: number): Promise<void> {
    const failedBefore = this.#counts.failed;
    const lost = new LocationWriterClosedError(
      'The writer was closed before the server answered: the location may be stored or not.',
    );
    let gaveUp = false;
    const deadline = setTimeout(() => {
      gaveUp = true;
      for (const connection of this.#connections) connection.giveUp(lost);
    }, timeoutMs);
    try {
      await this.flush();
      await Promise.all(this.#connections.map((connection) => connection.unregister()));
    } finally {
      clearTimeout(deadline);
    }
    const count = this.#counts.failed - failedBefore;
    if (gaveUp && count > 0) {
      throw new LocationWriterClosedError(
        `${count} locations were not confirmed: no answer of the server in ${timeoutMs} ms.`,
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #refuse(location: LocationInput, error: AtrizDatabaseError): Promise<never> {
    this.#counts.refused += 1;
    this.#tell(() => this.#onReject?.(location, error));
    return this.#handled(Promise.reject(error));
  }

  /** With `onReject`, callers need not handle the promise, so its rejection must not end the process. */
  #handled<Result>(promise: Promise<Result>): Promise<Result> {
    if (this.#onReject) promise.catch(() => undefined);
    return promise;
  }

  /** Calls a hook of the caller, whose error must not stop the writer. */
  #tell(hook: () => void): void {
    try {
      hook();
    } catch (error) {
      this.#lastError = error;
    }
  }

  /** A device always has the same connection, which keeps its locations in order. */
  #connectionOf(deviceId: string): WriterConnection {
    const index = Number.parseInt(deviceId.slice(-6), 16) % this.#connections.length;
    return this.#connections[index] as WriterConnection;
  }

  #settled(): void {
    if (this.#pending >= this.#maxPending) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function checkOptions(options: LocationWriterOptions) {
  const retryDelayMs = options.retryDelayMs ?? { min: 100, max: 10_000 };
  const numbers = { ...defaults };
  for (const name of Object.keys(defaults) as (keyof typeof defaults)[]) {
    numbers[name] = options[name] ?? defaults[name];
  }
  for (const [name, value] of Object.entries(numbers)) checkNumber(name, value, name === 'maxWaitMs' ? 0 : 1);
  checkNumber('retryDelayMs.min', retryDelayMs.min, 1);
  checkNumber('retryDelayMs.max', retryDelayMs.max, retryDelayMs.min);
  return { ...numbers, retryDelayMs };
}

/** The longest delay of a Node.js timer in milliseconds, about 24.8 days. */
const longest = 2 ** 31 - 1;

function checkNumber(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= longest) return;
  throw new ValidationError(`${name} is ${value}: use a whole number from ${least} to ${longest}.`);
}
