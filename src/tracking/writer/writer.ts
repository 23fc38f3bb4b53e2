// A writer for services: many single locations become few batches, each written exactly once.
import { AtrizDatabaseError, ValidationError } from '../../errors.ts';
import type { Pool } from '../../pool.ts';
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
  /** Connections that write at the same time; the pool needs as many. Default 2. */
  connections?: number;
  /** Locations that start a batch at once, and the most that one takes. Default 5,000. */
  batchSize?: number;
  /** How long a location waits for others to share its batch, in milliseconds. Default 20. */
  maxWaitMs?: number;
  /** Locations in memory; beyond it `write` refuses. Default 250,000: about 200 MB, and what their metadata take. */
  maxPending?: number;
  /** Pause before a batch is tried again, in milliseconds: doubled from `min` to `max`. Default 100 and 10,000. */
  retryDelayMs?: { min: number; max: number };
  /** An attempt without an answer for this long is given up and made again, in milliseconds. Default 60,000. */
  attemptTimeoutMs?: number;
  /** After each batch that was written. */
  onBatch?: (batch: BatchFacts) => void;
  /** Before each pause. */
  onRetry?: (retry: RetryFacts) => void;
  /** For each location that was not stored, besides the rejection of its promise. */
  onReject?: (location: LocationInput, error: unknown) => void;
}

export interface LocationWriterStats {
  /** Locations that are durable. */
  written: number;
  /** Locations that were refused, at once or by the server. */
  rejected: number;
  /** Locations that were accepted and are not settled yet. */
  pending: number;
  batches: number;
  /** Attempts that had to be made again. */
  retries: number;
  lastError: unknown;
}

/** `write` holds as many locations as it may: wait for `ready()`, or tell the device to come back later. */
export class LocationWriterFullError extends AtrizDatabaseError {
  override readonly name = 'LocationWriterFullError';
  override readonly code = 'WRITER_FULL';
}

/** The writer is closed, or was closed before it could store the location. */
export class LocationWriterClosedError extends AtrizDatabaseError {
  override readonly name = 'LocationWriterClosedError';
  override readonly code = 'WRITER_CLOSED';
}

export interface LocationWriter {
  /**
   * Accepts a location. Accepted means: it is checked and in memory, and as long as the process lives
   * the writer goes on until the location is stored or refused by the server for what it holds. The
   * promise resolves when the location is durable, i.e. when the server has answered its COMMIT (under
   * the server's `synchronous_commit`). Locations of one device are stored in the order of their writes.
   * @throws LocationsRejectedError with the reason, LocationWriterFullError or
   * LocationWriterClosedError, as a rejection: the location was not accepted. Later, the server's error
   * where it refuses the location.
   */
  write(location: LocationInput): Promise<void>;
  /** Resolves when there is room. A producer that does not await each write awaits this one. */
  ready(): Promise<void>;
  /** Writes without waiting for more locations; resolves when everything that was accepted before is settled. */
  flush(): Promise<void>;
  /**
   * Accepts nothing more, drains, and gives its connections back. Locations for which no answer comes in
   * `timeoutMs` (default 30,000) are rejected; those of the attempt under way may be stored all the same.
   * @throws LocationWriterClosedError that says how many were.
   */
  close(options?: { timeoutMs?: number }): Promise<void>;
  readonly stats: LocationWriterStats;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Creates a writer; the first location opens its connections. A batch is one transaction that also moves
 * the number of its connection in `location_writers`. When the answer to a COMMIT is lost, the batch
 * is sent again with the same number, and the server skips it if that number was reached: exactly
 * once, for one update of one small row per batch. What is left of an attempt without an answer is
 * ended on the server first (`pg_terminate_backend`, which a role may do to its own sessions).
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
  readonly #allowed: ZeroPositionOption;
  readonly #onReject: LocationWriterOptions['onReject'];
  readonly #counts = { accepted: 0, written: 0, refused: 0, failed: 0, batches: 0, retries: 0 };
  #lastError: unknown;
  #closing: Promise<void> | undefined;
  #waiting: (() => void)[] = [];

  constructor(db: Pool, options: LocationWriterOptions) {
    const checked = checkOptions(options);
    this.#maxPending = checked.maxPending;
    this.#onReject = options.onReject;
    this.#allowed = { allowZeroPosition: options.allowZeroPosition ?? false };
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

  close({ timeoutMs = 30_000 } = {}): Promise<void> {
    checkNumber('timeoutMs', timeoutMs, 0);
    this.#closing ??= this.#drain(timeoutMs);
    return this.#closing;
  }

  async #drain(timeoutMs: number): Promise<void> {
    const failedBefore = this.#counts.failed;
    const lost = new LocationWriterClosedError(
      'The writer was closed before the server answered: the location may be stored or not.',
    );
    const deadline = setTimeout(() => {
      for (const connection of this.#connections) connection.giveUp(lost);
    }, timeoutMs);
    try {
      await this.flush();
      await Promise.all(this.#connections.map((connection) => connection.unregister()));
    } finally {
      clearTimeout(deadline);
    }
    const count = this.#connections.some((connection) => connection.gaveUp)
      ? this.#counts.failed - failedBefore
      : 0;
    if (count > 0) {
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

  /** With `onReject`, a caller need not handle the promise: its rejection must not end the process. */
  #handled<Result>(promise: Promise<Result>): Promise<Result> {
    if (this.#onReject) promise.catch(() => undefined);
    return promise;
  }

  /** An error in a hook must not stop the writer. */
  #tell(hook: () => void): void {
    try {
      hook();
    } catch (error) {
      this.#lastError = error;
    }
  }

  /** The same connection for all locations of a device keeps them in order. */
  #connectionOf(deviceId: string): WriterConnection {
    const index = Number.parseInt(deviceId.slice(-6), 16) % this.#connections.length;
    return this.#connections[index] as WriterConnection;
  }

  #settled(): void {
    if (this.#waiting.length === 0 || this.#pending >= this.#maxPending) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
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

/** The longest timer of Node.js, about 24 days. */
const longest = 2 ** 31 - 1;

function checkNumber(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= longest) return;
  throw new ValidationError(`${name} is ${value}: use a whole number from ${least} to ${longest}.`);
}
