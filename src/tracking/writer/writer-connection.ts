// One connection of a location writer: a queue whose batches are written one after the other.
import { setImmediate as turn } from 'node:timers/promises';
import { sqlState } from '../../errors.ts';
import type { Pool } from '../../pool.ts';
import { type LocationInput, locationColumns } from '../columns.ts';
import { NumberedBatches } from './numbered-batches.ts';

export interface BatchFacts {
  events: number;
  /** 1, unless it had to be tried again. */
  attempts: number;
  /** From the first attempt to the answer, in milliseconds. */
  durationMs: number;
}

export interface RetryFacts {
  error: unknown;
  events: number;
  attempt: number;
  delayMs: number;
}

/** Its hooks never throw: the writer sees to that. */
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
  /** Numbers of entries that were added and settled so far: a flush compares them. */
  #added = 0;
  #settled = 0;
  #flushes: { upTo: number; resolve: () => void }[] = [];
  /** Set when the rest is given up: the error of everything that is left. */
  #end: { reason: unknown } | undefined;
  #isCollecting = false;
  /** Attempts without an answer, one after the other. */
  #unanswered = 0;
  /** Ends the current wait, whatever it is for. */
  #wake: (() => void) | undefined;

  constructor(db: Pool, options: WriterConnectionOptions) {
    this.#options = options;
    // A replica may not know yet whether a batch was stored.
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

  /** Resolves when everything that was added before is settled. */
  flush(): Promise<void> {
    if (this.#settled === this.#added) return Promise.resolve();
    return new Promise((resolve) => {
      this.#flushes.push({ upTo: this.#added, resolve });
      this.#startBatch();
    });
  }

  /** Rejects everything that is left with this error. */
  giveUp(reason: unknown): void {
    this.#end ??= { reason };
    this.#wake?.();
  }

  get gaveUp(): boolean {
    return this.#end !== undefined;
  }

  async unregister(): Promise<void> {
    await this.#running;
    if (!this.#end) await this.#untilEnd(this.#batches.unregister());
  }

  async #run(): Promise<void> {
    let answered = 0;
    while (this.#queue.length > 0) {
      await this.#collect(answered);
      const batch = this.#queue.splice(0, this.#options.batchSize);
      const left = this.#queue.length;
      await this.#deliver(batch);
      // Callers that await each write come back within this turn.
      await turn();
      answered = this.#queue.length - left >= batch.length ? batch.length : 0;
    }
    this.#running = undefined;
  }

  /** Ends the wait for more locations, and no other wait. */
  #startBatch(): void {
    if (this.#isCollecting) this.#wake?.();
  }

  /**
   * Waits for more locations, unless a batch is full, a flush waits, or all callers of the last batch have already
   * written their next location.
   */
  async #collect(answered: number): Promise<void> {
    const { batchSize, maxWaitMs } = this.#options;
    const enough = this.#queue.length >= batchSize || this.#flushes.length > 0 || this.#end !== undefined;
    if (enough || answered > 0 || maxWaitMs === 0) return;
    this.#isCollecting = true;
    await this.#wait(maxWaitMs);
    this.#isCollecting = false;
  }

  /** Tries until the batch is stored, whole or in halves. A location that the server refuses is rejected. */
  async #deliver(batch: readonly Entry[]): Promise<void> {
    const locations = batch.map(({ location }) => location);
    const place = this.#batches.next();
    const begin = performance.now();
    const { retryDelayMs } = this.#options;
    /** Why no attempt at the whole batch follows. */
    let stop: { error: unknown } | undefined;
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#attempt(() =>
        stop ? this.#batches.skip(place) : this.#batches.write(locations, place),
      );
      if ('isStored' in outcome && outcome.isStored) {
        this.#batches.confirm(place);
        for (const { resolve } of batch) resolve();
        const durationMs = performance.now() - begin;
        this.#options.onBatch({ events: batch.length, attempts: attempt, durationMs });
        return this.#count(batch.length);
      }
      const ended = this.#end;
      if (ended) return this.#reject(batch, ended.reason);
      if ('isStored' in outcome) {
        this.#batches.confirmSkip(place);
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
      // Half of it is random, so that writers that lost the same server do not retry at the same time.
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
    // After a change of the network, all connections of this age are silent: replace them. The intervals grow, because
    // a new connection may need longer than an attempt.
    if (outcome === silence && !this.#end && Number.isInteger(Math.log2(this.#unanswered)))
      this.#db.renew(begin);
    return outcome;
  }

  #untilEnd(work: Promise<void>): Promise<void> {
    return Promise.race([work, this.#wait(2 ** 31 - 1)]).finally(() => this.#wake?.());
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

/** The server may still be working, or its answer was lost. */
class NoAnswerError extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(milliseconds: number) {
    super(`No answer in ${milliseconds} ms.`);
  }
}

/** Classes of SQLSTATE: data, constraints, a view's check option, limits of the program, RAISE of a trigger. */
const values = ['22', '23', '44', '54', 'P0'];
/** query_canceled, as by statement_timeout; transaction_timeout; out_of_memory; configuration_limit_exceeded. */
const sizes = ['57014', '25P04', '53200', '53400'];

/** Whether the outcome of the attempt is known: only after an ERROR the session goes on. PgBouncer reports 08. */
function isAnswer(error: unknown): boolean {
  const said = serverError(error);
  return said?.severity === 'ERROR' && !said.code.startsWith('08');
}

/**
 * What to do with a batch: try it again, or split it, to find the invalid location or because it is too large. Only
 * errors about values are 'invalid': missing privileges, certificates and tables may be corrected.
 */
function classify(error: unknown): 'again' | 'invalid' | 'too large' | 'closed' {
  const said = serverError(error);
  if (said?.severity === 'ERROR' && isOfValues(said)) return 'invalid';
  if (error instanceof NoAnswerError || error instanceof RangeError) return 'too large';
  if (said && sizes.includes(said.code)) return 'too large';
  // A pool that was closed stays closed.
  return sqlState(error) === 'CONNECTION_ENDED' ? 'closed' : 'again';
}

interface ServerError {
  readonly code: string;
  readonly severity: string;
  readonly table_name?: string;
  readonly column_name?: string;
}

/** Not about a location: constraints of location_writers, and columns that locations do not have. */
function isOfValues({ code, table_name: table, column_name: column }: ServerError): boolean {
  if (!values.includes(code.slice(0, 2)) || table === 'location_writers') return false;
  return code !== '23502' || locationColumns.some(({ name }) => name === column);
}

/** The error of PostgreSQL or a proxy in a chain of causes. */
function serverError(error: unknown): ServerError | undefined {
  for (let current = error; current instanceof Error; current = current.cause) {
    if ('severity' in current && 'code' in current) return current as unknown as ServerError;
  }
  return undefined;
}
