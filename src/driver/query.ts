// Controls one postgres.js query from start to end, for every way of reading its rows.
import { Stream } from 'node:stream';
import { publishQuery } from './channels.ts';
import { type CopyStream, prepareCopy } from './copy-stream.ts';
import { textOf } from './reads.ts';

/** Undocumented parts of a postgres.js query. Because of them, the version of postgres.js is pinned. */
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
  /** Set by `convertRows`: `forEachFn` only adds the rows to the result, so the query can run again. */
  convertsRows?: boolean;
  streaming?: boolean;
  options: { onexecute?: (connection: unknown) => boolean };
  onlyDescribe?: boolean;
  /** Set for a COPY FROM whose stream is ended by `copyFrom`, and does not wait for a caller. */
  endsItself?: boolean;
}

type CursorWork = (rows: unknown) => unknown;

/** Converts each row when it arrives, while the server still reads later rows. Call it before the query starts. */
export function convertRows<Raw, Row>(query: Promise<unknown>, convert: (raw: Raw) => Row): void {
  const forEachFn = (raw: Raw, result: Row[]) => result.push(convert(raw));
  Object.assign(query, { forEachFn, convertsRows: true });
}

export const isCopy = ({ streaming, strings }: RunningQuery): boolean =>
  streaming === true || /^\s*copy\b/i.test(strings[0] ?? '');

export const isQuery = (result: unknown): boolean => result instanceof Promise && 'handler' in result;

/**
 * Replaces the functions that postgres.js calls when a query starts and ends. The subclasses contain the differences
 * between a pool, a replica and a transaction.
 */
export abstract class QueryExecution {
  protected readonly query: RunningQuery;
  readonly #resolve: RunningQuery['resolve'];
  readonly #reject: RunningQuery['reject'];
  #startedAt = 0;
  #failure: { readonly error: unknown } | undefined;
  #isReported = false;
  /** Ends the stream of a COPY. Set from the start of the COPY on. */
  #endCopy: ((error?: unknown) => void) | undefined;

  /** @param mostReruns how often the query may run again after a schema change made its prepared statement stale. */
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

  /** Name of the database, for the query channel. */
  protected abstract readonly database: string;
  /** Value that tells postgres.js to close a cursor early. */
  protected abstract readonly closeCursor: unknown;
  /** Called when the caller awaits the query: sends or rejects it. */
  protected abstract start(): unknown;
  /** Receives the rows, or the stream of a COPY. Called a second time when the COPY ends. */
  protected abstract succeeded(value: unknown): void;
  protected abstract failed(error: unknown): void;
  /** Sends the query again. Undefined in a transaction, which the failure has aborted. */
  protected abstract readonly rerun: (() => unknown) | undefined;

  protected resolve(value: unknown): void {
    if (value instanceof Stream) this.#startCopy(value as CopyStream);
    else {
      const { count, length } = value as { count?: number | null; length?: number };
      this.#report(count ?? length ?? null);
      // A COPY has already resolved with its stream.
      if (this.#endCopy) this.#endCopy();
      else this.#resolve(value);
    }
  }

  /**
   * The server may send an error before the caller listens to the stream of a COPY, even together with the start of the
   * COPY. Without a listener, the error would end the process. The caller gets the stream one event loop turn later, or
   * the error instead.
   */
  #startCopy(stream: CopyStream): void {
    stream.on('error', () => undefined);
    const end = prepareCopy(stream);
    if (this.#endCopy) {
      // The query has several COPYs: the caller has the stream of the first.
      stream.destroy();
      return;
    }
    this.#endCopy = end;
    setImmediate(() => {
      this.#resolve(stream);
      setImmediate(() => this.handedOver());
    });
  }

  /** Called when the caller has had the stream of a COPY for one event loop turn. */
  protected handedOver(): void {}

  protected reject(error: unknown): void {
    this.#failure ??= { error };
    this.#report(null, error);
    this.#endCopy?.(error);
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
   * Runs one step of a cursor. Never settles after a failure: postgres.js would send the next step to a lost connection
   * and crash.
   */
  async #cursorStep(work: CursorWork, batch: unknown): Promise<unknown> {
    try {
      return await work(batch);
    } finally {
      if (this.#failure) await new Promise<never>(() => undefined);
    }
  }

  /**
   * Reruns a query whose prepared statement is stale. postgres.js would resend it behind others in the pipeline, mix up
   * their answers so that all of them hang, and encode the parameters twice. It sets `retried` right before it resends.
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
        // postgres.js does not send a cancelled query.
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
 * Reads a cursor in steps, each requested after the previous one was consumed. The iterator of postgres.js is not used,
 * because it replaces the callbacks of the query at each step.
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
