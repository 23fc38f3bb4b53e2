// One connection of a location writer: a queue whose batches are written one after the other.
import { setImmediate as turn } from 'node:timers/promises';
import { sqlState } from '../errors.ts';
import type { Pool } from '../pool.ts';
import type { LocationInput } from './columns.ts';
import { NumberedBatches, type Place } from './numbered-batches.ts';

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
export interface LaneOptions {
  readonly batchSize: number;
  readonly maxWaitMs: number;
  readonly retryDelayMs: { readonly min: number; readonly max: number };
  readonly attemptTimeoutMs: number;
  readonly onBatch: (batch: BatchFacts) => void;
  readonly onRetry: (retry: RetryFacts) => void;
  readonly onReject: (event: LocationInput, error: unknown) => void;
}

interface Entry {
  readonly event: LocationInput;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Lane {
  readonly #options: LaneOptions;
  readonly #batches: NumberedBatches;
  #queue: Entry[] = [];
  #running: Promise<void> | undefined;
  /** How many entries were ever added, and settled: what a flush waits for. */
  #added = 0;
  #settled = 0;
  #flushes: { upTo: number; resolve: () => void }[] = [];
  /** Why everything that is left fails, once that is decided. */
  #end: { reason: unknown } | undefined;
  #gathers = false;
  /** Ends the wait that the lane is in, whatever it waits for. */
  #wake: (() => void) | undefined;

  constructor(db: Pool, options: LaneOptions) {
    this.#options = options;
    // Whether a batch was stored, a replica may not know yet.
    this.#batches = new NumberedBatches(db.primary);
  }

  add(event: LocationInput): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ event, resolve, reject });
      this.#added += 1;
      if (this.#queue.length === this.#options.batchSize) this.#hurry();
      this.#running ??= this.#run();
    });
  }

  /** Resolves when everything that was added before is settled. */
  flush(): Promise<void> {
    if (this.#settled === this.#added) return Promise.resolve();
    return new Promise((resolve) => {
      this.#flushes.push({ upTo: this.#added, resolve });
      this.#hurry();
    });
  }

  /** Lets what is left fail with this error instead of trying on. */
  giveUp(reason: unknown): void {
    this.#end ??= { reason };
    this.#wake?.();
  }

  get gaveUp(): boolean {
    return this.#end !== undefined;
  }

  async leave(): Promise<void> {
    await this.#running;
    if (!this.#end) await this.#unlessEnded(this.#batches.leave());
  }

  async #run(): Promise<void> {
    let answered = 0;
    while (this.#queue.length > 0) {
      await this.#gather(answered);
      const batch = this.#queue.splice(0, this.#options.batchSize);
      const left = this.#queue.length;
      await this.#deliver(batch);
      // Callers that await each write come back within this turn.
      await turn();
      answered = this.#queue.length - left >= batch.length ? batch.length : 0;
    }
    this.#running = undefined;
  }

  /** Ends a wait for company, and no other one. */
  #hurry(): void {
    if (this.#gathers) this.#wake?.();
  }

  /**
   * Waits for company, unless there is enough: a full batch, a flush, or everybody whose event was
   * just answered is back with the next one.
   */
  async #gather(answered: number): Promise<void> {
    const { batchSize, maxWaitMs } = this.#options;
    const enough = this.#queue.length >= batchSize || this.#flushes.length > 0 || this.#end !== undefined;
    if (enough || answered > 0 || maxWaitMs === 0) return;
    this.#gathers = true;
    await this.#wait(maxWaitMs);
    this.#gathers = false;
  }

  /** Tries until the batch is stored; what can never be stored is parted from the rest and rejected. */
  async #deliver(batch: readonly Entry[]): Promise<void> {
    const events = batch.map(({ event }) => event);
    const place = this.#batches.next();
    const begin = performance.now();
    const { retryDelayMs } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      const failure = this.#end ? { error: this.#end.reason } : await this.#attempt(events, place);
      if (failure === undefined) {
        this.#batches.confirm(place);
        for (const { resolve } of batch) resolve();
        const durationMs = performance.now() - begin;
        this.#options.onBatch({ events: batch.length, attempts: attempt, durationMs });
        return this.#count(batch.length);
      }
      const ended = this.#end;
      if (ended) return this.#reject(batch, ended.reason);
      const { error } = failure;
      const verdict = judge(error);
      if (verdict === 'refused' || (verdict === 'unfit' && batch.length === 1)) {
        this.#batches.giveUp();
        return this.#reject(batch, error);
      }
      if (verdict === 'unfit') {
        const half = Math.ceil(batch.length / 2);
        await this.#deliver(batch.slice(0, half));
        return this.#deliver(batch.slice(half));
      }
      const delayMs = Math.min(retryDelayMs.min * 2 ** Math.min(attempt - 1, 30), retryDelayMs.max);
      this.#options.onRetry({ error, events: batch.length, attempt, delayMs });
      // Half of it at random: writers that lost the same server do not come back in step.
      await this.#wait(delayMs * (0.5 + Math.random() / 2));
    }
  }

  /** @returns nothing when the batch is stored. */
  async #attempt(events: readonly LocationInput[], place: Place): Promise<{ error: unknown } | undefined> {
    const { attemptTimeoutMs } = this.#options;
    const silence = new Error(`No answer in ${attemptTimeoutMs} ms.`);
    const answer = this.#batches.write(events, place).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    const timeout = this.#wait(attemptTimeoutMs).then(() => ({
      error: Object.assign(silence, { code: 'ETIMEDOUT' }),
    }));
    const failure = await Promise.race([answer, timeout]);
    this.#wake?.();
    if (failure && !isAnswer(failure.error)) this.#batches.loseAnswer();
    return failure;
  }

  #unlessEnded(work: Promise<void>): Promise<void> {
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
    for (const { event, reject } of batch) {
      reject(error);
      this.#options.onReject(event, error);
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

/** Classes of SQLSTATE that pass by themselves: connection, rollback, resources, locks, operator, system, read-only. */
const passing = ['08', '25', '28', '3D', '40', '53', '55', '57', '58', 'XX'];
/** Classes of values: data, constraints, a view's check option, limits of the program, RAISE of a trigger. */
const values = ['22', '23', '44', '54', 'P0'];
const isSqlState = (code: string) => /^[0-9A-Z]{5}$/.test(code);

/** Whether the server said what became of the attempt. Class 08 and 57P0x say that the session ended. */
function isAnswer(error: unknown): boolean {
  const code = sqlState(error) ?? '';
  return isSqlState(code) && !code.startsWith('08') && !code.startsWith('57P');
}

/** What becomes of a batch: tried again, parted to find the event that does not fit, or refused as a whole. */
function judge(error: unknown): 'again' | 'unfit' | 'refused' {
  const code = sqlState(error) ?? '';
  // A pool that was closed stays closed; other errors of the network pass. A login may be mended meanwhile.
  if (/^(CONNECTION_(CLOSED|DESTROYED)|CONNECT_TIMEOUT|E[A-Z_]+)$/.test(code)) return 'again';
  if (!isSqlState(code)) return 'refused';
  if (passing.includes(code.slice(0, 2))) return 'again';
  return values.includes(code.slice(0, 2)) ? 'unfit' : 'refused';
}
