// Connections held by a transaction or reservation: handles their loss and their end.
// After a loss, postgres.js would send ROLLBACK to a closed socket, which crashes the process, or run later statements
// on the replacement connection, each committed by itself. It also sends COMMIT behind statements that were not
// awaited: if such a statement fails, the server answers with ROLLBACK, which postgres.js takes for success.
import { Readable, Writable } from 'node:stream';
import type postgres from 'postgres';
import { ConnectionError, TransactionRolledBackError } from '../errors.ts';
import { isDriverError } from './describe-connection-error.ts';
import { isQuery, QueryExecution, type RunningQuery } from './query.ts';
import { openSavepoint, type Scope, scopeOf, track, wasCrossed } from './savepoints.ts';
import { meansLoss, type Sockets } from './socket.ts';

type Work = (sql: postgres.TransactionSql) => unknown;
export type Begin = (...args: [...options: string[], work: Work]) => Promise<unknown>;

/** The client whose connection is held. */
export interface Holder {
  readonly database: string;
  readonly closeCursor: unknown;
  readonly sockets: Pick<Sockets, 'afterEnding' | 'ending' | 'reasonOf'>;
  /** Turns a connection error into a ConnectionError; returns other errors unchanged. */
  readonly describe: (error: unknown) => unknown;
  /** Called as soon as the connection is lost: new queries must not go to its postgres.js client. */
  readonly onLoss: () => void;
}

class HeldConnection {
  state: 'open' | 'lost' | 'ended' = 'open';
  readonly holder: Holder;
  readonly isReserved: boolean;
  /** Rejects when the connection is lost. */
  readonly loss: Promise<never>;
  #cause: unknown;
  #rejectLoss: (error: unknown) => void = () => undefined;

  constructor(holder: Holder, isReserved: boolean) {
    this.holder = holder;
    this.isReserved = isReserved;
    this.loss = new Promise((_, reject) => {
      this.#rejectLoss = reject;
    });
    this.loss.catch(() => undefined);
  }

  lose(error: unknown): void {
    if (this.state !== 'open') return;
    this.state = 'lost';
    this.#cause = error;
    this.holder.onLoss();
    this.#rejectLoss(error);
  }

  get isLost(): boolean {
    return this.state === 'lost';
  }

  /** Waits while another connection of the client has failed but is not closed: meanwhile nothing may begin or end. */
  async waitForEndings(): Promise<void> {
    while (this.holder.sockets.ending && this.state === 'open') await this.holder.sockets.ending;
  }

  /** The error for a statement after the loss or end of the connection. */
  notRun(): Error {
    if (this.state !== 'lost') return new Error('Not run: the transaction has ended.');
    const cause = this.holder.describe(this.#cause);
    const message = 'Not run: the connection of the transaction is lost.';
    if (cause instanceof ConnectionError) {
      const { database, code } = cause;
      return new ConnectionError(`${message} ${cause.message}`, { database, code, cause });
    }
    return Object.assign(new Error(message, { cause }), { code: 'CONNECTION_CLOSED' });
  }
}

/**
 * Wraps `sql.begin`: rejects when the connection is lost, and runs nothing after the end of the transaction.
 * @param onError receives the error of the transaction before it is described.
 */
export function guardBegin(begin: Begin, holder: Holder, onError: (error: unknown) => void): Begin {
  return async (...args) => {
    const { options, work } = split(args);
    const connection = new HeldConnection(holder, false);
    let thrown: { error: unknown } | undefined;
    try {
      return await begin(...options, (sql) =>
        runScope(connection, sql, work, scopeOf()).catch((error: unknown) => {
          thrown = { error };
          throw error;
        }),
      );
    } catch (error) {
      const reason = holder.sockets.reasonOf(error);
      if (meansLoss(reason)) connection.lose(reason);
      onError(reason);
      // An error that `work` itself throws, for example for a missing file, is not an error of this database.
      if (thrown && thrown.error === error && !isDriverError(error)) throw error;
      throw holder.describe(reason);
    } finally {
      if (connection.state === 'open') connection.state = 'ended';
    }
  };
}

/** Wraps a reserved connection: nothing runs on it after it is lost or released. */
export async function guardReserved(
  sql: postgres.ReservedSql,
  holder: Holder,
  onRelease: () => void,
): Promise<postgres.ReservedSql> {
  const connection = new HeldConnection(holder, true);
  // postgres.js reports a loss between two statements only through `onclose`, which it sets only in sql.begin().
  const onexecute = (inner: { onclose: unknown }) => {
    inner.onclose = (error: unknown) => connection.lose(holder.sockets.reasonOf(error));
    return true;
  };
  await sql.unsafe('', [], { onexecute } as postgres.UnsafeQueryOptions);
  const release = () => {
    if (connection.state === 'ended') return;
    onRelease();
    // Do not release a lost connection: postgres.js would reuse it and crash the process.
    if (connection.state === 'open') sql.release();
    connection.state = 'ended';
  };
  const guarded = guard(sql as unknown as postgres.TransactionSql, connection, scopeOf());
  return new Proxy(guarded, {
    get: (target, property) => (property === 'release' ? release : Reflect.get(target, property)),
  }) as unknown as postgres.ReservedSql;
}

/**
 * Runs the work of a transaction or savepoint, and resolves when all its statements have ended. Never settles after a
 * loss: otherwise postgres.js, which rejects begin() itself, would also send COMMIT or ROLLBACK.
 */
async function runScope(
  connection: HeldConnection,
  sql: postgres.TransactionSql,
  work: Work,
  scope: Scope,
): Promise<unknown> {
  const never = new Promise<never>(() => undefined);
  try {
    const guarded = guard(sql, connection, scope);
    const result = scope.enter(guarded, () => work(guarded));
    const value = await (Array.isArray(result) ? Promise.all(result) : result);
    // A statement that was not awaited starts some microtasks after it was created.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    const known = scope.failure;
    const { sockets } = connection.holder;
    while (connection.state === 'open' && (scope.running.size > 0 || sockets.ending)) {
      await Promise.race([Promise.allSettled([...scope.running, sockets.ending]), connection.loss]);
    }
    if (connection.isLost) return never;
    if (scope.failure) throw known?.error ?? rolledBack(scope.failure.error);
    return value;
  } catch (error) {
    await connection.waitForEndings();
    if (connection.isLost) return never;
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

function guard(
  sql: postgres.TransactionSql,
  connection: HeldConnection,
  scope: Scope,
): postgres.TransactionSql {
  const watch = <Result>(result: Result): Result => {
    if (isQuery(result)) new HeldQuery(result as unknown as RunningQuery, connection, scope);
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
            await connection.waitForEndings();
            if (connection.state !== 'open') throw connection.notRun();
            const { options, work } = split(args);
            const run: Work = (nested) => runScope(connection, nested, work, inner);
            return Promise.race([Reflect.apply(value, target, [...options, run]), connection.loss]);
          });
        return savepoint;
      }
      return value;
    },
  });
}

/** A statement of a transaction or of a reserved connection. */
class HeldQuery extends QueryExecution {
  protected readonly database: string;
  protected readonly closeCursor: unknown;
  protected readonly rerun: (() => unknown) | undefined;
  readonly #send: RunningQuery['handler'];
  readonly #connection: HeldConnection;
  readonly #scope: Scope;
  #end: (value?: unknown) => void = () => undefined;

  constructor(query: RunningQuery, connection: HeldConnection, scope: Scope) {
    const { handler } = query;
    super(query, 1);
    this.#send = handler;
    this.#connection = connection;
    this.#scope = scope;
    this.database = connection.holder.database;
    this.closeCursor = connection.holder.closeCursor;
    if (connection.isReserved) this.rerun = () => handler(query);
  }

  protected start(): unknown {
    return this.#connection.holder.sockets.afterEnding(this.query, () => {
      if (this.#connection.state !== 'open') return this.query.reject(this.#connection.notRun());
      this.#begin();
      wasCrossed(this.#scope);
      return this.#send(this.query);
    });
  }

  protected succeeded(value: unknown): void {
    // A COPY TO has only started when its stream is available: the query settles a second time when the COPY ends.
    if (!(value instanceof Readable)) this.#end();
    if (value instanceof Writable) onFinish(value, () => this.#begin());
    this.resolve(value);
  }

  protected failed(error: unknown): void {
    this.#scope.failure ??= { error };
    this.#end();
    if (meansLoss(error)) this.#connection.lose(error);
    this.reject(this.#connection.holder.describe(error));
  }

  #begin(): void {
    const running = new Promise((resolve) => {
      this.#end = resolve;
    });
    void track(this.#scope, running);
  }
}

/**
 * Calls `begin` right before the stream of a COPY FROM is ended or destroyed: the query was resolved when the stream
 * became available, but runs on until the COPY ends, and then settles a second time.
 */
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

const split = (args: readonly unknown[]) => ({
  options: args.slice(0, -1) as string[],
  work: args.at(-1) as Work,
});
