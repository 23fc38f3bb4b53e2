// One connection of a location writer: a queue whose batches are written one after the other.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { copyFrom } from '../copy.ts';
import { sqlState } from '../errors.ts';
import type { Pool } from '../pool.ts';
import { withTransaction } from '../transaction.ts';
import { copyStatement, encodeCopy } from './binary.ts';
import type { LocationInput } from './columns.ts';
import { arraysOf, columnNames, rowsForCopy, takesCopy, unnestLocations } from './events.ts';
import { lateHours, noteLateHours } from './late.ts';

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

// $1 to $11 are the points, $12 the lane, $13 the number of the batch, $14 its late hours.
const insertOnce = `WITH writer AS (
    UPDATE location_writers SET last_batch = $13::bigint WHERE id = $12::uuid AND last_batch = $13::bigint - 1 RETURNING id
  ), late AS (
    INSERT INTO location_late_hours (hour) SELECT unnest($14::timestamptz[]) WHERE EXISTS (SELECT FROM writer)
  )
  INSERT INTO location_events (${columnNames}) SELECT ${columnNames} FROM ${unnestLocations} WHERE EXISTS (SELECT FROM writer)`;

export class Lane {
  readonly #db: Pool;
  readonly #options: LaneOptions;
  readonly #id = randomUUID();
  readonly #stop = new AbortController();
  #registered = false;
  #copies: boolean | undefined;
  /** Number of the last batch that is known to be committed. */
  #last = 0;
  #queue: Entry[] = [];
  #running: Promise<void> | undefined;
  /** How many entries were ever added, and settled: what a flush waits for. */
  #added = 0;
  #settled = 0;
  #flushes: { upTo: number; resolve: () => void }[] = [];
  #wake: (() => void) | undefined;

  constructor(db: Pool, options: LaneOptions) {
    // Whether a batch was stored, a replica may not know yet.
    this.#db = db.primary;
    this.#options = options;
  }

  get gaveUp(): boolean {
    return this.#stop.signal.aborted;
  }

  add(event: LocationInput): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ event, resolve, reject });
      this.#added += 1;
      if (this.#queue.length >= this.#options.batchSize) this.#wake?.();
      this.#running ??= this.#run();
    });
  }

  /** Resolves when everything that was added before is settled. */
  flush(): Promise<void> {
    if (this.#settled === this.#added) return Promise.resolve();
    return new Promise((resolve) => {
      this.#flushes.push({ upTo: this.#added, resolve });
      this.#wake?.();
    });
  }

  /** Lets what is left fail with this error instead of trying on. */
  giveUp(error: unknown): void {
    this.#stop.abort(error);
    this.#wake?.();
  }

  /** Takes its row back. One that stays behind harms nobody. */
  async leave(): Promise<void> {
    await this.#running;
    if (!this.#registered || this.gaveUp) return;
    await this.#db.query('DELETE FROM location_writers WHERE id = $1', [this.#id]).catch(() => undefined);
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

  /**
   * Waits for company, unless there is enough: a full batch, a flush, or everybody whose event was
   * just answered is back with the next one.
   */
  async #gather(answered: number): Promise<void> {
    const { batchSize, maxWaitMs } = this.#options;
    const enough = this.#queue.length >= batchSize || this.#flushes.length > 0 || this.gaveUp;
    if (enough || answered > 0 || maxWaitMs === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, maxWaitMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  /** Tries until the batch is stored; what can never be stored is parted from the rest and rejected. */
  async #deliver(batch: readonly Entry[]): Promise<void> {
    const events = batch.map(({ event }) => event);
    const begin = performance.now();
    const { retryDelayMs } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        this.#stop.signal.throwIfAborted();
        await this.#attempt(events);
        this.#last += 1;
        this.#options.onBatch({
          events: batch.length,
          attempts: attempt,
          durationMs: performance.now() - begin,
        });
        for (const { resolve } of batch) resolve();
        return this.#count(batch.length);
      } catch (error) {
        if (this.gaveUp) return this.#reject(batch, this.#stop.signal.reason);
        const verdict = judge(error);
        if (verdict === 'refused' || (verdict === 'unfit' && batch.length === 1)) {
          return this.#reject(batch, error);
        }
        if (verdict === 'unfit') {
          const half = Math.ceil(batch.length / 2);
          await this.#deliver(batch.slice(0, half));
          return this.#deliver(batch.slice(half));
        }
        const delayMs = Math.min(retryDelayMs.min * 2 ** (attempt - 1), retryDelayMs.max);
        this.#options.onRetry({ error, events: batch.length, attempt, delayMs });
        // Half of it at random: writers that lost the same server do not come back in step.
        const { signal } = this.#stop;
        await sleep(delayMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Writes the batch under the next number, unless that number shows that it is written already. */
  async #attempt(events: readonly LocationInput[]): Promise<void> {
    const answer = this.#write(events);
    // Given up, it may still end: nobody waits for it then.
    answer.catch(() => undefined);
    const { signal } = this.#stop;
    const timer = new AbortController();
    const silence = sleep(this.#options.attemptTimeoutMs, undefined, {
      signal: AbortSignal.any([timer.signal, signal]),
    }).then(
      () => {
        throw Object.assign(new Error(`No answer in ${this.#options.attemptTimeoutMs} ms.`), {
          code: 'ETIMEDOUT',
        });
      },
      (error: unknown) => {
        if (signal.aborted) throw error;
      },
    );
    try {
      await Promise.race([answer, silence]);
    } finally {
      timer.abort();
    }
  }

  async #write(events: readonly LocationInput[]): Promise<void> {
    await this.#register();
    const number = this.#last + 1;
    if (await this.#insert(events, number)) return;
    const { rows } = await this.#db.query<{ reached: boolean }>(
      'SELECT last_batch >= $2::bigint AS reached FROM location_writers WHERE id = $1::uuid',
      [this.#id, number],
    );
    if (rows[0]?.reached) return;
    // The row is gone: emptied or restored, and the events of its last batch with it.
    this.#registered = false;
    await this.#register();
    if (!(await this.#insert(events, number)))
      throw Object.assign(new Error('The row of the writer moves.'), { code: '40001' });
  }

  /** @returns whether the number was free, and with it the events are stored. */
  async #insert(events: readonly LocationInput[], number: number): Promise<boolean> {
    const late = lateHours(events);
    if (events.length < rowsForCopy || !this.#copies) {
      const hours = [...late].map((at) => new Date(at));
      const { rowCount } = await this.#db.query(insertOnce, [...arraysOf(events), this.#id, number, hours]);
      return rowCount > 0;
    }
    return withTransaction(this.#db, async (transaction) => {
      const { rowCount } = await transaction.query(
        'UPDATE location_writers SET last_batch = $2::bigint WHERE id = $1::uuid AND last_batch = $2::bigint - 1',
        [this.#id, number],
      );
      if (rowCount === 0) return false;
      await copyFrom(transaction, copyStatement, encodeCopy(events));
      await noteLateHours(transaction, late);
      return true;
    });
  }

  /** Makes its row, and removes those of writers that are gone for longer than any batch could wait. */
  async #register(): Promise<void> {
    if (this.#registered) return;
    this.#copies ??= await takesCopy(this.#db);
    await this.#db.query("DELETE FROM location_writers WHERE updated_at < now() - interval '30 days'");
    await this.#db.query(
      'INSERT INTO location_writers (id, last_batch) VALUES ($1::uuid, $2::bigint) ON CONFLICT DO NOTHING',
      [this.#id, this.#last],
    );
    this.#registered = true;
  }

  #reject(batch: readonly Entry[], error: unknown): void {
    for (const { event, reject } of batch) {
      this.#options.onReject(event, error);
      reject(error);
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
const passing = ['08', '25', '40', '53', '55', '57', '58', 'XX'];
/** Classes of values: data, constraints, limits of the program. */
const values = ['22', '23', '54'];

/** What becomes of a batch: tried again, parted to find the event that does not fit, or refused as a whole. */
function judge(error: unknown): 'again' | 'unfit' | 'refused' {
  const code = sqlState(error);
  if (code === undefined) return 'refused';
  // Whatever is no SQLSTATE comes of the network, and a login may be mended while we wait.
  if (!/^[0-9A-Z]{5}$/.test(code) || ['28', '3D'].includes(code.slice(0, 2))) return 'again';
  if (passing.includes(code.slice(0, 2))) return 'again';
  return values.includes(code.slice(0, 2)) ? 'unfit' : 'refused';
}
