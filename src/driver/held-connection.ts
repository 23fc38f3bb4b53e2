// Handles the loss and the end of connections that a transaction or reservation holds.
// After a loss, postgres.js would send ROLLBACK to a closed socket, which crashes the process, or run later statements
// on the replacement connection, each committed by itself. It also sends COMMIT behind statements that were not
// awaited: if such a statement fails, the server answers with ROLLBACK, which postgres.js takes for success.
import { Readable, Stream, Writable } from 'node:stream';
import type postgres from 'postgres';
import { ConnectionError, TransactionRolledBackError } from '../errors.ts';
import type { CopyStream } from './copy-stream.ts';
import { isDriverError } from './describe-connection-error.ts';
import { isCopy, isQuery, QueryExecution, type RunningQuery } from './query.ts';
import { hasEnded, openSavepoint, type Scope, scopeOf, track, wasCrossed } from './savepoints.ts';
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
  state: 'open' | 'releasing' | 'lost' | 'ended' = 'open';
  readonly holder: Holder;
  readonly isReserved: boolean;
  /** Rejects when the connection is lost. */
  readonly loss: Promise<never>;
  /** COPYs whose stream may still be in use. */
  readonly copies = new Set<HeldQuery>();
  /** Scope of the transaction. Set when its work has ended. */
  ending: Scope | undefined;
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
    if (this.state !== 'open' && this.state !== 'releasing') return;
    this.state = 'lost';
    this.#cause = error;
    this.holder.onLoss();
    this.#rejectLoss(error);
  }

  get isLost(): boolean {
    return this.state === 'lost';
  }

  /** Waits until all failed connections of the client are closed. Nothing may begin or end before that. */
  async waitForEndings(): Promise<void> {
    while (this.holder.sockets.ending && this.state === 'open') await this.holder.sockets.ending;
  }

  /**
   * Waits for the COPYs before a statement.
   * @throws COPY_IN_PROGRESS if a COPY waits for its caller, who may wait for the statement.
   */
  async waitForCopies(copies: readonly HeldQuery[]): Promise<void> {
    for (const copy of copies) {
      if (copy.isFrom) await copy.begun;
      if (copy.waitsForCaller) throw copyInProgress();
      if (copy.stream || copy.isFrom) await copy.running;
    }
  }

  /** Ends the COPYs that run, so that ROLLBACK can follow. */
  async abandonCopies(): Promise<void> {
    const running = [...this.copies].filter((copy) => copy.isRunning);
    for (const copy of running) copy.abandon();
    await Promise.race([Promise.all(running.map((copy) => copy.running)), this.loss]).catch(() => undefined);
  }

  /** At the end of a transaction, abandons the COPYs whose stream nobody uses: they would never end. */
  endUnusedCopies(): void {
    for (const copy of this.copies) {
      if (!this.ending || !copy.isUnused) continue;
      this.ending.failure ??= { error: new Error('nobody read or ended the stream of its COPY') };
      copy.abandon();
    }
  }

  /** Returns the error for a statement that comes after the loss or end of the connection. */
  notRun(): Error {
    const holder = this.isReserved ? 'reservation' : 'transaction';
    if (this.state !== 'lost') return new Error(`Not run: the ${holder} has ended.`);
    const cause = this.holder.describe(this.#cause);
    const message = `Not run: the connection of the ${holder} is lost.`;
    if (cause instanceof ConnectionError) {
      const { database, code } = cause;
      return new ConnectionError(`${message} ${cause.message}`, { database, code, cause });
    }
    return Object.assign(new Error(message, { cause }), { code: 'CONNECTION_CLOSED' });
  }
}

/**
 * Wraps `sql.begin`: rejects when the connection is lost, and runs nothing after the end of the transaction.
 * @param onError receives the error of the transaction before `holder.describe` changes it.
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
    if (connection.state === 'ended' || connection.state === 'releasing') return;
    const copies = [...connection.copies].filter((copy) => copy.isRunning);
    const end = () => {
      onRelease();
      // Do not release a lost connection: postgres.js would reuse it and crash the process.
      if (connection.state !== 'lost') sql.release();
      connection.state = 'ended';
    };
    if (copies.length === 0) return end();
    if (connection.state === 'open') connection.state = 'releasing';
    for (const copy of copies) if (copy.isFrom) copy.abandon();
    void Promise.all(copies.map(({ running }) => running)).then(end);
  };
  const guarded = guard(sql as unknown as postgres.TransactionSql, connection, scopeOf());
  return new Proxy(guarded, {
    get: (target, property) => (property === 'release' ? release : Reflect.get(target, property)),
  }) as unknown as postgres.ReservedSql;
}

/**
 * Runs the work of a transaction or savepoint, and resolves when all its statements have ended. After a loss it never
 * settles: postgres.js rejects begin() itself, and would otherwise also send COMMIT or ROLLBACK.
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
    if (scope.outer) passCopies(connection, scope, scope.outer);
    else {
      connection.ending = scope;
      connection.endUnusedCopies();
    }
    const { sockets } = connection.holder;
    while (connection.state === 'open' && (scope.running.size > 0 || sockets.ending)) {
      await Promise.race([Promise.allSettled([...scope.running, sockets.ending]), connection.loss]);
    }
    if (connection.isLost) return never;
    if (scope.failure) throw known?.error ?? rolledBack(scope.failure.error);
    if (!scope.outer) scope.isOver = true;
    return value;
  } catch (error) {
    scope.isOver = true;
    await connection.abandonCopies();
    await connection.waitForEndings();
    if (connection.isLost) return never;
    throw error;
  }
}

/** Moves running COPYs to the outer scope, which may go on with them: a savepoint sends nothing when it succeeds. */
function passCopies({ copies }: HeldConnection, inner: Scope, outer: Scope): void {
  for (const copy of copies) {
    if (!inner.running.delete(copy.running)) continue;
    copy.scope = outer;
    void track(outer, copy.running);
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
            await connection.waitForCopies([...connection.copies]);
            if (connection.state !== 'open' || hasEnded(scope)) throw connection.notRun();
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
  /** Changes when a COPY outlives the savepoint in which it began. */
  scope: Scope;
  /** Resolves when the statement has ended. */
  running: Promise<unknown> = Promise.resolve();
  isRunning = false;
  /** Resolves when the caller has had time to use the stream of the COPY, or the statement has ended. */
  readonly begun: Promise<void>;
  /** Set from the start of a COPY on. */
  stream: CopyStream | undefined;
  protected readonly database: string;
  protected readonly closeCursor: unknown;
  protected readonly rerun: (() => unknown) | undefined;
  readonly #send: RunningQuery['handler'];
  readonly #connection: HeldConnection;
  #end: () => void = () => undefined;
  #onBegun: () => void = () => undefined;
  #isSettled = false;
  #isHandedOver = false;
  #isAbandoned = false;

  constructor(query: RunningQuery, connection: HeldConnection, scope: Scope) {
    const { handler } = query;
    super(query, 1);
    this.begun = new Promise((resolve) => {
      this.#onBegun = resolve;
    });
    this.#send = handler;
    this.#connection = connection;
    this.scope = scope;
    this.database = connection.holder.database;
    this.closeCursor = connection.holder.closeCursor;
    if (connection.isReserved) this.rerun = () => handler(query);
  }

  /** Whether this is a COPY FROM STDIN, whose data must not be mixed with other statements. */
  get isFrom(): boolean {
    return isCopy(this.query) && /\bstdin\b/i.test(this.query.strings.join(' '));
  }

  /** Whether this is a COPY that runs until its caller reads or ends its stream. */
  get waitsForCaller(): boolean {
    const { stream } = this;
    if (!stream || stream.destroyed || this.#isSettled || this.query.endsItself) return false;
    return !(stream instanceof Writable && stream.writableEnded);
  }

  /** Whether this is a COPY with a stream that the caller does not use. */
  get isUnused(): boolean {
    return this.#isHandedOver && (this.#isUnread || (this.waitsForCaller && this.stream instanceof Writable));
  }

  get #isUnread(): boolean {
    const { stream } = this;
    if (!(stream instanceof Readable)) return false;
    return !stream.destroyed && stream.readableFlowing === null && !stream.readableDidRead;
  }

  /** Ends a COPY, now or when it has started. */
  abandon(): void {
    this.#isAbandoned = true;
    this.stream?.destroy();
  }

  protected start(): unknown {
    const connection = this.#connection;
    return connection.holder.sockets.afterEnding(this.query, () => {
      if (connection.state !== 'open') return this.query.reject(connection.notRun());
      const copies = [...connection.copies];
      this.#begin();
      if (copies.every((copy) => !copy.isRunning)) return this.#sendIfOpen();
      const refuse = (error: unknown) => this.query.reject(error);
      return connection.waitForCopies(copies).then(() => this.#sendIfOpen(), refuse);
    });
  }

  #sendIfOpen(): unknown {
    if (this.#connection.state !== 'open' || hasEnded(this.scope)) {
      return this.query.reject(this.#connection.notRun());
    }
    wasCrossed(this.scope);
    return this.#send(this.query);
  }

  protected succeeded(value: unknown): void {
    // A COPY has only started when its stream is available: it settles a second time at its end.
    if (value instanceof Stream) {
      this.stream = value as CopyStream;
      this.#connection.copies.add(this);
    } else this.#end();
    this.resolve(value);
    if (this.#isAbandoned) this.abandon();
  }

  protected override handedOver(): void {
    this.#isHandedOver = true;
    this.#onBegun();
    if (this.#isSettled) this.#end();
    this.#connection.endUnusedCopies();
  }

  protected failed(error: unknown): void {
    this.scope.failure ??= { error };
    this.#end();
    if (meansLoss(error)) this.#connection.lose(error);
    this.reject(this.#connection.holder.describe(error));
  }

  #begin(): void {
    const { copies, isReserved } = this.#connection;
    this.isRunning = true;
    this.running = new Promise<void>((resolve) => {
      this.#end = () => {
        this.#isSettled = true;
        if (!this.stream) this.#onBegun();
        // A transaction does not end before the caller has its stream.
        if (this.stream && !this.#isHandedOver) return;
        this.isRunning = false;
        if (isReserved || !this.#isUnread) copies.delete(this);
        resolve();
      };
    });
    if (isCopy(this.query)) copies.add(this);
    void track(this.scope, this.running);
  }
}

const copyInProgress = (): Error =>
  Object.assign(
    new Error('A COPY is in progress on this connection: read or end its stream before the next statement.'),
    { code: 'COPY_IN_PROGRESS' },
  );

const split = (args: readonly unknown[]) => ({
  options: args.slice(0, -1) as string[],
  work: args.at(-1) as Work,
});
