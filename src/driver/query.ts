// One query of postgres.js from its start to its end, whichever way its rows are read.
import { Readable, Stream } from 'node:stream';
import { publishQuery } from './query-channel.ts';
import { textOf } from './reads.ts';

/** The parts of a postgres.js query that its own code calls. Undocumented, hence the pinned version. */
export interface RunningQuery {
  strings: readonly string[];
  args: readonly unknown[];
  /** The text that was sent, with `$1` for the first parameter. */
  string?: string;
  handler: (query: RunningQuery) => unknown;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  then: Promise<unknown>['then'];
  cancelled: unknown;
  parameters?: unknown;
  cursor: (rows?: number | CursorWork, work?: CursorWork) => object;
  cursorFn?: CursorWork;
  forEachFn?: unknown;
  streaming?: boolean;
  options: { onexecute?: (connection: unknown) => boolean };
  onlyDescribe?: boolean;
}

type CursorWork = (rows: unknown) => unknown;

export const isQuery = (result: unknown): boolean => result instanceof Promise && 'handler' in result;

/**
 * Takes the place of what postgres.js calls when a query starts and ends. What differs between a pool, a replica and
 * a transaction is in the subclasses.
 */
export abstract class QueryExecution {
  protected readonly query: RunningQuery;
  readonly #resolve: RunningQuery['resolve'];
  readonly #reject: RunningQuery['reject'];
  #startedAt = 0;
  #failure: { readonly error: unknown } | undefined;
  #isReported = false;

  /** @param mostReruns how often the query may run again when a change of the schema made its statement stale. */
  constructor(query: RunningQuery, mostReruns: number) {
    this.query = query;
    const { cursor } = query;
    this.#resolve = query.resolve.bind(query);
    this.#reject = query.reject.bind(query);
    query.handler = () => {
      this.#startedAt = performance.now();
      return this.start();
    };
    query.resolve = (value) => this.succeeded(value);
    query.reject = (error) => this.failed(error);
    query.cursor = (rows, work) => {
      if (typeof rows === 'function') return query.cursor(1, rows);
      if (work) return cursor.call(query, rows, (batch) => this.#cursorStep(work, batch));
      return { [Symbol.asyncIterator]: () => iterate(query, rows, this.closeCursor) };
    };
    this.#catchStale(mostReruns);
  }

  /** Name of the database, for those who hear of each query. */
  protected abstract readonly database: string;
  /** What tells postgres.js to close a cursor early. */
  protected abstract readonly closeCursor: unknown;
  /** The caller awaits the query: sends it, or refuses to. */
  protected abstract start(): unknown;
  /** Has rows, or the stream of a COPY; of a COPY FROM once more at its end. */
  protected abstract succeeded(value: unknown): void;
  protected abstract failed(error: unknown): void;
  /** Sends the query a second time. Undefined where a failure ends the transaction. */
  protected abstract readonly rerun: (() => unknown) | undefined;

  protected resolve(value: unknown): void {
    if (value instanceof Readable) {
      readOn(value);
      value.once('close', () => this.#report(null));
    } else if (!(value instanceof Stream)) {
      const { count, length } = value as { count?: number | null; length?: number };
      this.#report(count ?? length ?? null);
    }
    this.#resolve(value);
  }

  protected reject(error: unknown): void {
    this.#failure ??= { error };
    this.#report(null, error);
    this.#reject(error);
  }

  #report(rows: number | null, error?: unknown): void {
    if (this.#isReported) return;
    this.#isReported = true;
    publishQuery(() => ({
      database: this.database,
      text: this.query.string ?? textOf(this.query),
      durationMs: performance.now() - this.#startedAt,
      rows,
      error,
    }));
  }

  /**
   * After a failure it never returns: postgres.js would take it for the end of the rows, and send the next step to a
   * connection that is lost, which ends the process.
   */
  async #cursorStep(work: CursorWork, batch: unknown): Promise<unknown> {
    try {
      return await work(batch);
    } finally {
      if (this.#failure) await new Promise<never>(() => undefined);
    }
  }

  /**
   * postgres.js sends a query with a stale statement again behind others that are under way, takes their answers for
   * its own, so that all of them wait for ever, and encodes the parameters a second time. It notes the error in
   * `retried` right before it does so.
   */
  #catchStale(mostReruns: number): void {
    const { query } = this;
    let reruns = 0;
    let stale: unknown;
    Object.defineProperty(query, 'retried', {
      configurable: true,
      get: () => (reruns >= mostReruns ? stale : undefined),
      set: (error) => {
        const { cancelled } = query;
        // A query that is cancelled it does not send.
        query.cancelled = true;
        const { rerun } = this;
        if (!rerun) return query.reject(error);
        stale = error;
        reruns += 1;
        queueMicrotask(() => {
          query.cancelled = cancelled;
          query.parameters = undefined;
          rerun();
        });
      },
    });
  }
}

/**
 * The rows of a cursor in steps, each asked for when the one before it was taken. Not postgres.js's own iterator, which
 * puts other callbacks into the query with each step.
 */
function iterate(query: RunningQuery, rows: number | undefined, close: unknown): AsyncIterator<unknown> {
  let take: (step: IteratorResult<unknown>) => void = () => undefined;
  let goOn: (close?: unknown) => void = () => undefined;
  let end: Promise<IteratorResult<unknown>> | undefined;
  const done = () => ({ done: true as const, value: undefined });
  query.cursor(rows, (value) => {
    take({ done: false, value });
    return new Promise((resolve) => {
      goOn = resolve;
    });
  });
  return {
    next: () => {
      const step = new Promise<IteratorResult<unknown>>((resolve) => {
        take = resolve;
      });
      goOn();
      end ??= query.then(done);
      return Promise.race([step, end]);
    },
    return: async () => {
      goOn(close);
      return done();
    },
  };
}

/**
 * Lets the connection go on once the stream of a COPY TO is closed, at its end or before: postgres.js stops reading
 * while the stream is full, and leaves it at that when nobody asks for more.
 */
function readOn(stream: Readable): void {
  stream.once('close', () => {
    stream.push = () => true;
    stream._read(0);
  });
}
