// Transactions of postgres.js that survive the loss of their connection, and are over when they say so.
// By hand: postgres.js would send ROLLBACK to the socket that is gone, which ends the process, or let
// late statements of a lost transaction run on the connection that took its place, each committed by itself.
// And it sends COMMIT behind statements that nobody awaited: when one fails, the server answers with
// ROLLBACK, which postgres.js takes for the end that was asked for.
import { Writable } from 'node:stream';
import type postgres from 'postgres';
import { ConnectionError, TransactionRolledBackError } from '../errors.ts';
import { isDriverError } from './connection-error.ts';
import { intercept, isQuery, type RunningQuery, rejectStale, rerunStale } from './query.ts';
import { openSavepoint, type Scope, scopeOf, track, wasCrossed } from './savepoints.ts';
import { endedSession, isUnsent, type Sockets } from './socket.ts';

type Work = (sql: postgres.TransactionSql) => unknown;
export type Begin = (...args: [...options: string[], work: Work]) => Promise<unknown>;

/** What becomes of a transaction's connection: statements may run while it is open. */
interface Fate {
  state: 'open' | 'lost' | 'ended';
  readonly isReserved: boolean;
  readonly describe: Explain['describe'];
  readonly sockets: Explain['sockets'];
  /** Rejects when the connection is lost. */
  readonly loss: Promise<never>;
  readonly lose: (error: unknown) => void;
  /** What it was lost by. */
  cause?: unknown;
}

/** What a connection makes of its errors. */
export interface Explain {
  readonly sockets: Pick<Sockets, 'ending'>;
  /** What the server said about the end of a connection that postgres.js only calls closed. */
  readonly reasonOf: (error: unknown) => unknown;
  /** An error of a connection as one of ours. */
  readonly describe: (error: unknown) => unknown;
  /** Told at once when the connection is lost: nothing else may run on what postgres.js keeps of it. */
  readonly onLoss: () => void;
}

/**
 * `sql.begin` that rejects, once, when the connection is lost, and lets nothing run after its end.
 * @param onError hears what the transaction rejects with, before it is described.
 */
export function guardBegin(begin: Begin, explain: Explain, onError: (error: unknown) => void): Begin {
  return async (...args) => {
    const { options, work } = split(args);
    const fate = newFate(explain, false);
    let thrown: { error: unknown } | undefined;
    const transaction = begin(...options, (sql) =>
      settle(fate, sql, work, scopeOf()).catch((error: unknown) => {
        thrown = { error };
        throw error;
      }),
    );
    try {
      return await transaction;
    } catch (error) {
      const reason = explain.reasonOf(error);
      if (meansLoss(reason)) fate.lose(reason);
      onError(reason);
      // What the work threw of its own, a missing file for example, is not a failure of this database.
      if (thrown && thrown.error === error && !isDriverError(error)) throw error;
      throw explain.describe(reason);
    } finally {
      if (fate.state === 'open') fate.state = 'ended';
    }
  };
}

/** A reserved connection on which nothing runs any more once it is lost or released. */
export async function guardReserved(
  sql: postgres.ReservedSql,
  explain: Explain,
  onRelease: () => void,
): Promise<postgres.ReservedSql> {
  const fate = newFate(explain, true);
  await watchConnection(sql, (error) => fate.lose(explain.reasonOf(error)));
  const release = () => {
    if (fate.state === 'ended') return;
    onRelease();
    // A lost one is not the caller's to give back: the pool would use it again, and the process end.
    if (fate.state === 'open') sql.release();
    fate.state = 'ended';
  };
  const guarded = guard(sql as unknown as postgres.TransactionSql, fate, scopeOf());
  return new Proxy(guarded, {
    get: (target, property) => (property === 'release' ? release : Reflect.get(target, property)),
  }) as unknown as postgres.ReservedSql;
}

// postgres.js tells only sql.begin() when the connection is lost between two statements; this is how.
async function watchConnection(sql: postgres.ReservedSql, onclose: (error: unknown) => void): Promise<void> {
  const onexecute = (connection: { onclose: unknown }) => {
    connection.onclose = onclose;
    return true;
  };
  await sql.unsafe('', [], { onexecute } as postgres.UnsafeQueryOptions);
}

function newFate({ sockets, describe, onLoss }: Explain, isReserved: boolean): Fate {
  let reject: (error: unknown) => void = () => undefined;
  const loss = new Promise<never>((_, fail) => {
    reject = fail;
  });
  loss.catch(() => undefined);
  const fate: Fate = {
    state: 'open',
    isReserved,
    sockets,
    describe,
    loss,
    lose: (error) => {
      if (fate.state !== 'open') return;
      fate.state = 'lost';
      fate.cause = error;
      onLoss();
      reject(error);
    },
  };
  return fate;
}

// postgres.js ends a lost transaction itself, by rejecting begin(): until then nothing may come back
// to it, because it would answer with COMMIT or ROLLBACK.
async function settle(fate: Fate, sql: postgres.TransactionSql, work: Work, scope: Scope): Promise<unknown> {
  const parked = new Promise<never>(() => undefined);
  try {
    const guarded = guard(sql, fate, scope);
    const result = scope.enter(guarded, () => work(guarded));
    const value = await (Array.isArray(result) ? Promise.all(result) : result);
    // A statement that nobody awaited begins some microtasks after it was written.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    const known = scope.failure;
    const { sockets } = fate;
    while ((scope.running.size > 0 || sockets.ending) && fate.state === 'open') {
      await Promise.race([Promise.allSettled([...scope.running, sockets.ending]), fate.loss]);
    }
    if (fate.state === 'lost') return parked;
    if (scope.failure) throw known?.error ?? rolledBack(scope.failure.error);
    return value;
  } catch (error) {
    while (fate.sockets.ending && fate.state === 'open') await fate.sockets.ending;
    if (fate.state === 'lost') return parked;
    throw error;
  }
}

function rolledBack(error: unknown): TransactionRolledBackError {
  return new TransactionRolledBackError(
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
        const savepoint: Begin = (...args) =>
          openSavepoint(scope, args, async (inner) => {
            while (fate.sockets.ending && fate.state === 'open') await fate.sockets.ending;
            if (fate.state !== 'open') throw notRun(fate);
            const { options, work } = split(args);
            const settled: Work = (nested) => settle(fate, nested, work, inner);
            return Promise.race([Reflect.apply(value, target, [...options, settled]), fate.loss]);
          });
        return savepoint;
      }
      return value;
    },
  });
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
  const start = (started: RunningQuery): unknown => {
    if (fate.state !== 'open') return started.reject(notRun(fate));
    begin();
    wasCrossed(scope);
    return handler(started);
  };
  if (fate.isReserved) rerunStale(query, () => handler(query), 1);
  else rejectStale(query);
  query.handler = (started) => whenEnded(fate.sockets, started, start);
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
      pass(fate.describe(error));
    },
  });
}

/** Sends a query, but not to a connection that has failed. */
export function whenEnded(
  sockets: Pick<Sockets, 'ending'>,
  query: RunningQuery,
  send: RunningQuery['handler'],
): unknown {
  const { ending } = sockets;
  if (!ending) return send(query);
  return ending.then(() => (query.cancelled ? undefined : whenEnded(sockets, query, send)));
}

function notRun({ state, cause, describe }: Fate): Error {
  if (state !== 'lost') return new Error('Not run: the transaction has ended.');
  const said = describe(cause);
  if (!(said instanceof ConnectionError)) {
    const closed = { code: 'CONNECTION_CLOSED' };
    return Object.assign(new Error('Not run: the connection of the transaction is lost.', { cause }), closed);
  }
  const { database, code, message } = said;
  const details = { database, code, cause: said };
  return new ConnectionError(`Not run: the connection of the transaction is lost. ${message}`, details);
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

/** Network errors have no SQLSTATE. A login that fails loses nothing. */
export function meansLoss(error: unknown): boolean {
  if (endedSession(error)) return true;
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (typeof code !== 'string' || severity !== undefined || isUnsent(error) || neverConnected.includes(code))
    return false;
  return /^(CONNECTION_|E[A-Z]+$)/.test(code);
}

const split = (args: readonly unknown[]) => ({
  options: args.slice(0, -1) as string[],
  work: args.at(-1) as Work,
});
