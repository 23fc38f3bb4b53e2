// What becomes of one postgres.js query, seen from outside, whichever way its rows are read.
import { Readable } from 'node:stream';

/** The parts of a postgres.js query that its own code calls. */
export interface RunningQuery {
  strings: readonly string[];
  args: readonly unknown[];
  handler: (query: RunningQuery) => unknown;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  cancelled: unknown;
  parameters?: unknown;
  cursor: (...args: unknown[]) => object;
  cursorFn: ((rows: unknown) => unknown) | undefined;
  forEachFn?: unknown;
  streaming?: boolean;
  options: { onexecute?: (connection: unknown) => boolean };
  onlyDescribe?: boolean;
}

export const isQuery = (result: unknown): boolean => result instanceof Promise && 'handler' in result;

interface Outcome {
  resolve: (value: unknown, pass: (value: unknown) => void) => void;
  reject: (error: unknown, pass: (error: unknown) => void) => void;
}

/**
 * Puts `outcome` before what the query would do with it. By hand: a cursor sets new callbacks with every
 * step, takes a failure between two steps for the end of the rows, and goes on sending to a connection
 * that is lost, which ends the process.
 */
export function intercept(query: RunningQuery, outcome: Outcome): void {
  let { resolve, reject, cursorFn } = query;
  let failure: { error: unknown } | undefined;
  const step = async (rows: unknown) => {
    try {
      return await cursorFn?.(rows);
    } finally {
      // postgres.js would send the next step.
      if (failure) await new Promise<never>(() => undefined);
    }
  };
  // Bound to what they found: a replacement calls the one that it replaced.
  define('resolve', {
    get: () => {
      const pass = resolve;
      return (value) => {
        if (value instanceof Readable) readOn(value);
        outcome.resolve(value, pass);
      };
    },
    set: (own) => {
      resolve = own;
    },
  });
  define('reject', {
    get: () => {
      const inner = reject;
      const pass = (error: unknown) => {
        failure ??= { error };
        inner(error);
      };
      return (error) => outcome.reject(error, pass);
    },
    set: (own) => {
      reject = own;
    },
  });
  define('cursorFn', {
    get: () => cursorFn && step,
    set: (own) => {
      cursorFn = own;
    },
  });
  const { cursor } = query;
  query.cursor = (...args) => guardCursor(cursor.apply(query, args), () => failure);

  function define<Name extends 'resolve' | 'reject' | 'cursorFn'>(
    name: Name,
    access: { get: () => RunningQuery[Name]; set: (own: RunningQuery[Name]) => void },
  ): void {
    Object.defineProperty(query, name, { ...access, configurable: true });
  }
}

/**
 * Lets the connection go on once the stream of a COPY TO is closed, at its end or before. By hand: postgres.js stops
 * reading while the stream is full, and leaves it at that when nobody asks for more.
 */
function readOn(stream: Readable): void {
  stream.once('close', () => {
    stream.push = () => true;
    stream._read(0);
  });
}

/**
 * Runs a query again, up to `most` times, whose prepared statement a change of the schema has made stale. By hand:
 * postgres.js writes it behind others that are under way, whose answers it then takes for its own, so that all of
 * them wait for ever; and it encodes the parameters a second time.
 */
export function rerunStale(query: RunningQuery, rerun: () => unknown, most: number): void {
  let failure: unknown;
  let times = 0;
  // postgres.js notes the error here when it has forgotten the statement, right before it writes the query again.
  Object.defineProperty(query, 'retried', {
    configurable: true,
    get: () => (times >= most ? failure : undefined),
    set: (error) => {
      failure = error;
      times += 1;
      const { cancelled } = query;
      // What is cancelled it does not write.
      query.cancelled = true;
      queueMicrotask(() => {
        query.cancelled = cancelled;
        query.parameters = undefined;
        rerun();
      });
    },
  });
}

/** In a transaction, which such a failure aborts, the query ends with it, before those behind it do. */
export function rejectStale(query: RunningQuery): void {
  Object.defineProperty(query, 'retried', {
    configurable: true,
    get: () => undefined,
    set: (error) => {
      query.cancelled = true;
      query.reject(error);
    },
  });
}

/** A cursor with a callback is the query itself; without one it is iterated. */
function guardCursor(made: object, failureOf: () => { error: unknown } | undefined): object {
  if (!(Symbol.asyncIterator in made)) return made;
  const rows = made as AsyncIterable<unknown>;
  return {
    [Symbol.asyncIterator]: () => {
      const inner = rows[Symbol.asyncIterator]();
      return {
        next: async () => {
          const failure = failureOf();
          if (failure) throw failure.error;
          return inner.next();
        },
        return: async () => (failureOf() ? { done: true } : inner.return?.()),
      };
    },
  };
}
