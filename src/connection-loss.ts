// Transactions of postgres.js that survive the loss of their connection, and are over when they say so.
// By hand: postgres.js would send ROLLBACK to the socket that is gone, which ends the process, or let
// late statements of a lost transaction run on the connection that took its place, each committed by itself.
// And it sends COMMIT behind statements that nobody awaited: when one fails, the server answers with
// ROLLBACK, which postgres.js takes for the end that was asked for.
import { Writable } from 'node:stream';
import type postgres from 'postgres';
import { AtrizDatabaseError } from './errors.ts';
import { intercept, isQuery, type RunningQuery, rejectStale, rerunStale } from './query.ts';

type Work = (sql: postgres.TransactionSql) => unknown;
export type Begin = (...args: [...options: string[], work: Work]) => Promise<unknown>;

/** What becomes of a transaction's connection: statements may run while it is open. */
interface Fate {
  state: 'open' | 'lost' | 'ended';
  readonly isReserved: boolean;
  /** Rejects when the connection is lost. */
  readonly loss: Promise<never>;
  readonly lose: (error: unknown) => void;
}

/** What was begun in a transaction or savepoint. */
interface Scope {
  /** Statements and savepoints that are not over. */
  readonly running: Set<Promise<unknown>>;
  /** The first statement that failed, caught or not: the server commits nothing of the scope. */
  failure?: { readonly error: unknown };
}

const newScope = (): Scope => ({ running: new Set() });

/** `sql.begin` that rejects, once, when the connection is lost, and lets nothing run after its end. */
export function guardBegin(begin: Begin): Begin {
  return async (...args) => {
    const { options, work } = split(args);
    const fate = newFate({ isReserved: false });
    const transaction = begin(...options, (sql) => settle(fate, sql, work));
    try {
      return await transaction;
    } catch (error) {
      if (meansLoss(error)) fate.lose(error);
      throw error;
    } finally {
      if (fate.state === 'open') fate.state = 'ended';
    }
  };
}

/** A reserved connection on which nothing runs any more once it is lost or released. */
export async function guardReserved(
  sql: postgres.ReservedSql,
  onRelease: () => void,
): Promise<postgres.ReservedSql> {
  const fate = newFate({ isReserved: true });
  await watchConnection(sql, fate);
  const release = () => {
    if (fate.state === 'ended') return;
    onRelease();
    // A lost one is not the caller's to give back: the pool would use it again, and the process end.
    if (fate.state === 'open') sql.release();
    fate.state = 'ended';
  };
  const guarded = guard(sql as unknown as postgres.TransactionSql, fate, newScope());
  return new Proxy(guarded, {
    get: (target, property) => (property === 'release' ? release : Reflect.get(target, property)),
  }) as unknown as postgres.ReservedSql;
}

// postgres.js tells only sql.begin() when the connection is lost between two statements; this is how.
async function watchConnection(sql: postgres.ReservedSql, fate: Fate): Promise<void> {
  const onexecute = (connection: { onclose: unknown }) => {
    connection.onclose = (error: unknown) => fate.lose(error);
    return true;
  };
  await sql.unsafe('', [], { onexecute } as postgres.UnsafeQueryOptions);
}

function newFate({ isReserved }: Pick<Fate, 'isReserved'>): Fate {
  let reject: (error: unknown) => void = () => undefined;
  const loss = new Promise<never>((_, fail) => {
    reject = fail;
  });
  loss.catch(() => undefined);
  const fate: Fate = {
    state: 'open',
    isReserved,
    loss,
    lose: (error) => {
      if (fate.state !== 'open') return;
      fate.state = 'lost';
      reject(error);
    },
  };
  return fate;
}

// postgres.js ends a lost transaction itself, by rejecting begin(): until then nothing may come back
// to it, because it would answer with COMMIT or ROLLBACK.
async function settle(fate: Fate, sql: postgres.TransactionSql, work: Work): Promise<unknown> {
  const parked = new Promise<never>(() => undefined);
  const scope = newScope();
  try {
    const result = work(guard(sql, fate, scope));
    const value = await (Array.isArray(result) ? Promise.all(result) : result);
    const known = scope.failure;
    while (scope.running.size > 0 && fate.state === 'open') {
      await Promise.race([Promise.allSettled(scope.running), fate.loss]);
    }
    if (fate.state === 'lost') return parked;
    if (scope.failure) throw known?.error ?? rolledBack(scope.failure.error);
    return value;
  } catch (error) {
    if (fate.state === 'lost') return parked;
    throw error;
  }
}

function rolledBack(error: unknown): AtrizDatabaseError {
  return new AtrizDatabaseError(
    `The transaction was rolled back, because a statement that it did not await failed: ${(error as Error).message}. ` +
      'Await every statement.',
    { cause: error },
  );
}

function guard(sql: postgres.TransactionSql, fate: Fate, scope: Scope): postgres.TransactionSql {
  const watch = <Result>(result: Result): Result => {
    if (isQuery(result)) watchQuery(result as unknown as RunningQuery, fate, scope);
    return result;
  };
  return new Proxy(sql, {
    apply: (target, receiver, args) => watch(Reflect.apply(target, receiver, args)),
    get: (target, property, receiver) => {
      const value = Reflect.get(target, property, receiver);
      if (property === 'unsafe' || property === 'file') {
        return (...args: unknown[]) => watch(Reflect.apply(value, target, args));
      }
      if (property === 'savepoint') {
        const savepoint: Begin = (...args) => {
          const { options, work } = split(args);
          const inner: Work = (nested) => settle(fate, nested, work);
          return track(scope, Promise.race([Reflect.apply(value, target, [...options, inner]), fate.loss]));
        };
        return savepoint;
      }
      return value;
    },
  });
}

function track<Result>(scope: Scope, running: Promise<Result>): Promise<Result> {
  scope.running.add(running);
  const end = () => scope.running.delete(running);
  running.then(end, end);
  return running;
}

function watchQuery(query: RunningQuery, fate: Fate, scope: Scope): void {
  const { handler } = query;
  let end: (value?: unknown) => void = () => undefined;
  const begin = () =>
    void track(
      scope,
      new Promise((resolve) => {
        end = resolve;
      }),
    );
  if (fate.isReserved) rerunStale(query, () => handler(query), 1);
  else rejectStale(query);
  query.handler = (started) => {
    if (fate.state === 'open') {
      begin();
      return handler(started);
    }
    const isLost = fate.state === 'lost';
    const error = new Error(
      `Not run: ${isLost ? 'the connection of the transaction is lost' : 'the transaction has ended'}.`,
    );
    return started.reject(isLost ? Object.assign(error, { code: 'CONNECTION_CLOSED' }) : error);
  };
  intercept(query, {
    resolve: (value, pass) => {
      end();
      if (value instanceof Writable) onFinish(value, begin);
      pass(value);
    },
    reject: (error, pass) => {
      scope.failure ??= { error };
      end();
      if (meansLoss(error)) fate.lose(error);
      pass(error);
    },
  });
}

/** A COPY has only begun when it has a stream: it resolves or rejects once more when that was ended or destroyed. */
function onFinish(stream: Writable, begin: () => void): void {
  const { end, destroy } = stream;
  const once = () => {
    if (!stream.writableEnded && !stream.destroyed) begin();
  };
  stream.end = (...args: unknown[]) => {
    once();
    return Reflect.apply(end, stream, args);
  };
  stream.destroy = (error) => {
    once();
    return Reflect.apply(destroy, stream, [error]);
  };
}

const neverConnected = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENOENT'];

/** Network errors have no SQLSTATE; after a FATAL the server closes the connection. */
export function meansLoss(error: unknown): boolean {
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (severity === 'FATAL' || severity === 'PANIC') return true;
  if (typeof code !== 'string' || severity !== undefined || neverConnected.includes(code)) return false;
  return /^(CONNECTION_|E[A-Z]+$)/.test(code);
}

const split = (args: readonly unknown[]) => ({
  options: args.slice(0, -1) as string[],
  work: args.at(-1) as Work,
});
