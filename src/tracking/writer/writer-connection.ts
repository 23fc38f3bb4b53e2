// One connection of a location writer. It queues locations and writes them in batches, one batch after the other.
import { setImmediate as turn } from 'node:timers/promises';
import { sqlState } from '../../errors.ts';
import type { Pool } from '../../pool.ts';
import { type LocationInput, locationColumns } from '../columns.ts';
import { NumberedBatches } from './numbered-batches.ts';

export interface BatchFacts {
  events: number;
  /** Number of attempts. 1, unless the batch had to be retried. */
  attempts: number;
  /** Milliseconds from the start of the first attempt to the answer. */
  durationMs: number;
}

export interface RetryFacts {
  error: unknown;
  events: number;
  attempt: number;
  delayMs: number;
}

/** The hooks must not throw. `PooledWriter` catches the errors of the caller's hooks. */
export interface WriterConnectionOptions {
  readonly batchSize: number;
  readonly maxWaitMs: number;
  readonly retryDelayMs: { readonly min: number; readonly max: number };
  readonly attemptTimeoutMs: number;
  readonly onBatch: (batch: BatchFacts) => void;
  readonly onRetry: (retry: RetryFacts) => void;
  readonly onReject: (location: LocationInput, error: unknown) => void;
}

interface Entry {
  readonly location: LocationInput;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class WriterConnection {
  readonly #options: WriterConnectionOptions;
  readonly #db: Pool;
  readonly #batches: NumberedBatches;
  #queue: Entry[] = [];
  #running: Promise<void> | undefined;
  /** How many entries were added and settled so far. A flush compares the two numbers. */
  #added = 0;
  #settled = 0;
  #flushes: { upTo: number; resolve: () => void }[] = [];
  /** Set by `giveUp`: the error with which all remaining locations are rejected. */
  #end: { reason: unknown } | undefined;
  #isCollecting = false;
  /** Number of consecutive attempts that timed out. */
  #unanswered = 0;
  /** Ends the current wait: for more locations, for an answer, or before a retry. */
  #wake: (() => void) | undefined;

  constructor(db: Pool, options: WriterConnectionOptions) {
    this.#options = options;
    // A replica may lag behind and cannot tell whether a batch was stored.
    this.#db = db.primary;
    this.#batches = new NumberedBatches(this.#db);
  }

  add(location: LocationInput): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ location, resolve, reject });
      this.#added += 1;
      if (this.#queue.length === this.#options.batchSize) this.#startBatch();
      this.#running ??= this.#run();
    });
  }

  /** Resolves when all locations that were added before this call are settled. */
  flush(): Promise<void> {
    if (this.#settled === this.#added) return Promise.resolve();
    return new Promise((resolve) => {
      this.#flushes.push({ upTo: this.#added, resolve });
      this.#startBatch();
    });
  }

  /** Rejects, with this error, all locations that are not settled. */
  giveUp(reason: unknown): void {
    this.#end ??= { reason };
    this.#wake?.();
  }

  async unregister(): Promise<void> {
    await this.#running;
    if (this.#end) return;
    await Promise.race([this.#batches.unregister(), this.#wait(2 ** 31 - 1)]);
    this.#wake?.();
  }

  async #run(): Promise<void> {
    let answered = 0;
    while (this.#queue.length > 0) {
      await this.#collect(answered);
      const batch = this.#queue.splice(0, this.#options.batchSize);
      const left = this.#queue.length;
      await this.#deliver(batch);
      // Callers that await each write add their next location within this turn of the event loop.
      await turn();
      answered = this.#queue.length - left >= batch.length ? batch.length : 0;
    }
    this.#running = undefined;
  }

  /** Ends the wait for more locations, but no other wait. */
  #startBatch(): void {
    if (this.#isCollecting) this.#wake?.();
  }

  /**
   * Waits for more locations, unless a batch is full, a flush waits, or `answered` is above 0. An `answered` above 0
   * means that all callers of the last batch have already written their next location.
   */
  async #collect(answered: number): Promise<void> {
    const { batchSize, maxWaitMs } = this.#options;
    const enough = this.#queue.length >= batchSize || this.#flushes.length > 0 || this.#end !== undefined;
    if (enough || answered > 0 || maxWaitMs === 0) return;
    this.#isCollecting = true;
    await this.#wait(maxWaitMs);
    this.#isCollecting = false;
  }

  /** Retries until the batch is stored, whole or in halves. Locations that the server refuses are rejected. */
  async #deliver(batch: readonly Entry[]): Promise<void> {
    const locations = batch.map(({ location }) => location);
    const number = this.#batches.next();
    const begin = performance.now();
    const { retryDelayMs } = this.#options;
    /** The error after which the whole batch is not attempted again. */
    let stop: { error: unknown } | undefined;
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#attempt(() =>
        stop ? this.#batches.skip(number) : this.#batches.write(locations, number),
      );
      if ('isStored' in outcome && outcome.isStored) {
        this.#batches.confirm(number);
        for (const { resolve } of batch) resolve();
        const durationMs = performance.now() - begin;
        this.#options.onBatch({ events: batch.length, attempts: attempt, durationMs });
        return this.#count(batch.length);
      }
      const ended = this.#end;
      if (ended) return this.#reject(batch, ended.reason);
      if ('isStored' in outcome) {
        this.#batches.confirmSkip(number);
        if (batch.length === 1) return this.#reject(batch, stop?.error);
        const half = Math.ceil(batch.length / 2);
        await this.#deliver(batch.slice(0, half));
        return this.#deliver(batch.slice(half));
      }
      const { error } = outcome;
      const verdict = classify(error);
      if (verdict === 'closed') return this.#reject(batch, error);
      if (verdict === 'invalid' || (verdict === 'too large' && batch.length > 1)) stop ??= { error };
      if (verdict === 'invalid') continue;
      const delayMs = Math.min(retryDelayMs.min * 2 ** Math.min(attempt - 1, 30), retryDelayMs.max);
      this.#options.onRetry({ error, events: batch.length, attempt, delayMs });
      // Half of the delay is random, so that writers that lost the same server do not retry at the same time.
      await this.#wait(delayMs * (0.5 + Math.random() / 2));
    }
  }

  async #attempt(work: () => Promise<boolean>): Promise<{ isStored: boolean } | { error: unknown }> {
    if (this.#end) return { error: this.#end.reason };
    const { attemptTimeoutMs } = this.#options;
    const begin = performance.now();
    const silence = { error: new NoAnswerError(attemptTimeoutMs) };
    const answer = work().then(
      (isStored) => ({ isStored }),
      (error: unknown) => ({ error }),
    );
    const timeout = this.#wait(attemptTimeoutMs).then(() => silence);
    const outcome = await Promise.race([answer, timeout]);
    this.#wake?.();
    if ('error' in outcome && !isAnswer(outcome.error)) this.#batches.loseAnswer();
    this.#unanswered = outcome === silence ? this.#unanswered + 1 : 0;
    // After a network change, all older connections may be silent, so they are replaced after 1, 2, 4, 8 ...
    // unanswered attempts. The steps grow, because a new connection may need longer than one attempt.
    if (outcome === silence && !this.#end && Number.isInteger(Math.log2(this.#unanswered)))
      this.#db.renew(begin);
    return outcome;
  }

  #wait(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), milliseconds);
      this.#wake = () => {
        this.#wake = undefined;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #reject(batch: readonly Entry[], error: unknown): void {
    for (const { location, reject } of batch) {
      reject(error);
      this.#options.onReject(location, error);
    }
    this.#count(batch.length);
  }

  #count(settled: number): void {
    this.#settled += settled;
    const done = this.#flushes.filter(({ upTo }) => upTo <= this.#settled);
    this.#flushes = this.#flushes.filter(({ upTo }) => upTo > this.#settled);
    for (const { resolve } of done) resolve();
  }
}

/** An attempt timed out. The server may still be working, or its answer was lost. */
class NoAnswerError extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(milliseconds: number) {
    super(`No answer in ${milliseconds} ms.`);
  }
}

/**
 * SQLSTATE classes of errors about values: data, constraints, a view's check option, program limits, RAISE in
 * a trigger.
 */
const values = ['22', '23', '44', '54', 'P0'];
/**
 * SQLSTATEs of batches that are too large: query_canceled (statement_timeout), transaction_timeout,
 * out_of_memory, configuration_limit_exceeded.
 */
const sizes = ['57014', '25P04', '53200', '53400'];

/**
 * Whether the error proves that the attempt stored nothing. An ERROR proves this, because the session continues after
 * it. Class 08 proves nothing, because it comes from a PgBouncer that lost the server.
 */
function isAnswer(error: unknown): boolean {
  const said = serverError(error);
  return said?.severity === 'ERROR' && !said.code.startsWith('08');
}

/**
 * Decides whether a batch is retried ('again'), split ('invalid', 'too large') or rejected ('closed'). Errors that are
 * not about values, such as missing privileges, certificates or tables, are retried, because somebody may correct them.
 */
function classify(error: unknown): 'again' | 'invalid' | 'too large' | 'closed' {
  const said = serverError(error);
  if (said?.severity === 'ERROR' && isOfValues(said)) return 'invalid';
  if (error instanceof NoAnswerError || error instanceof RangeError) return 'too large';
  if (said && sizes.includes(said.code)) return 'too large';
  // A closed pool does not open again.
  return sqlState(error) === 'CONNECTION_ENDED' ? 'closed' : 'again';
}

interface ServerError {
  readonly code: string;
  readonly severity: string;
  readonly table_name?: string;
  readonly column_name?: string;
}

/**
 * Whether the values of a location cause the error. A constraint of location_writers, or NOT NULL of a column
 * that locations do not have, is not about a location.
 */
function isOfValues({ code, table_name: table, column_name: column }: ServerError): boolean {
  if (!values.includes(code.slice(0, 2)) || table === 'location_writers') return false;
  return code !== '23502' || locationColumns.some(({ name }) => name === column);
}

/** Finds the error of PostgreSQL or a proxy in a chain of causes. */
function serverError(error: unknown): ServerError | undefined {
  for (let current = error; current instanceof Error; current = current.cause) {
    if ('severity' in current && 'code' in current) return current as unknown as ServerError;
  }
  return undefined;
}
