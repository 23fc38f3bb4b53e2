// A client that survives lost connections: it replaces its whole postgres.js client.
// In postgres.js 3.4 a lost connection keeps parts of its query: its next query gets the old error or is never sent.
import { readFile } from 'node:fs/promises';
import { Stream } from 'node:stream';
import type postgres from 'postgres';
import { ConfigurationError } from '../errors.ts';
import { Generation } from './client-generation.ts';
import type { Connector } from './connector.ts';
import { type Begin, guardBegin, guardReserved, type Holder } from './held-connection.ts';
import { isCopy, isQuery, QueryExecution, type RunningQuery } from './query.ts';
import { isRead, textOf } from './reads.ts';
import type { Replicas } from './replicas.ts';
import { hasNotRun, isUnsent, meansLoss } from './socket.ts';

/** Maximum number of attempts for a query or transaction that no server has run, each on a new client if needed. */
const mostAttempts = 100;

/** `replicas`: reads may use replicas. `primary`, and `own` for the pool itself: only this client's server. */
type Route = 'replicas' | 'primary' | 'own';

/** A postgres.js client without `listen` and `subscribe`, whose connections this client cannot replace. */
export type Sql = postgres.Sql & Record<'listen' | 'subscribe', never>;

export class Client {
  /** Reads may go to replicas. */
  readonly sql: Sql;
  /** All queries go to this client's own server. */
  readonly primary: Sql;
  readonly #connector: Connector;
  readonly #retired = new Set<Generation>();
  #current: Generation;
  #replicas: Replicas<Client> | undefined;
  #isClosed = false;

  constructor(connector: Connector) {
    this.#connector = connector;
    this.#current = this.#connect();
    this.sql = this.#proxy('replicas');
    this.primary = this.#proxy('primary');
  }

  get database(): string {
    return this.#connector.database;
  }

  get current(): Generation {
    return this.#current;
  }

  get replicas(): Replicas<Client> | undefined {
    return this.#replicas;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Number of queries, transactions and reservations that have begun and not ended, including waiting ones. */
  get running(): number {
    return [this.#current, ...this.#retired].reduce((sum, generation) => sum + generation.running, 0);
  }

  /** Turns a connection error into a ConnectionError; returns other errors unchanged. */
  describe(error: unknown): unknown {
    return this.#connector.describe(error);
  }

  /** Lets reads through `sql` go to replicas. */
  readFrom(replicas: Replicas<Client>): void {
    this.#replicas = replicas;
  }

  /** Runs a query of the pool itself on this server; it does not count as a write of the application. */
  async ask<Row extends object>(text: string): Promise<readonly Row[]> {
    return await this.#watch(this.#current.sql.unsafe<Row[]>(text), 'own');
  }

  /** Waits up to `timeoutMs` for running queries, then closes every connection. No query starts afterwards. */
  async close(timeoutMs: number): Promise<void> {
    // Queries issued before this call still run: they reach their connection some microtasks later.
    await new Promise((resolve) => setImmediate(resolve));
    this.#isClosed = true;
    this.#connector.close();
    const ends = [this.#current, ...this.#retired].map((generation) => generation.end(timeoutMs));
    await Promise.all([...ends, this.#replicas?.close(timeoutMs)]);
    this.#connector.abort();
  }

  /** Sends new queries to a new client, unless the current one was created at or after `moment` (performance.now()). */
  renew(moment: number): void {
    if (this.#current.madeAt < moment) this.replace(this.#current);
  }

  /** Sends new queries to a new client, while the old client finishes what still runs on it. */
  replace(generation: Generation, error?: Error): void {
    if (generation !== this.#current || this.#isClosed) return;
    this.#current = this.#connect();
    this.#retired.add(generation);
    generation.retire(error).finally(() => this.#retired.delete(generation));
  }

  #connect(): Generation {
    const generation: Generation = new Generation(this.#connector.connect(), (error) => {
      // Queries beyond `max` wait for a connection: fail them now, not one by one with each failed login.
      if (generation.running > generation.max) this.replace(generation, error);
    });
    return generation;
  }

  #proxy(route: Route): Sql {
    const unsafe = (...args: Parameters<postgres.Sql['unsafe']>) =>
      this.#watch(this.#current.sql.unsafe(...args), route);
    const own: Readonly<Record<string | symbol, unknown>> = {
      unsafe,
      file: (...args: Parameters<postgres.Sql['file']>) =>
        this.#watch(this.#current.sql.file(...args), route, String(args[0])),
      begin: (...args: Parameters<Begin>) => this.#begin(args),
      reserve: () => this.#reserve(),
      end: () => this.close(5_000),
      notify: async (channel: string, payload: string) =>
        await unsafe('SELECT pg_notify($1, $2)', [channel, payload]),
      listen: notOffered,
      subscribe: notOffered,
    };
    return new Proxy(this.#current.sql as Sql, {
      apply: (_, receiver, args) => this.#watch(Reflect.apply(this.#current.sql, receiver, args), route),
      get: (_, property) => own[property] ?? Reflect.get(this.#current.sql, property),
    });
  }

  /** Every query outside of a transaction passes through here. */
  #watch<Result>(result: Result, route: Route, file?: string): Result {
    if (isQuery(result)) new PoolQuery(result as unknown as RunningQuery, this, route, file);
    return result;
  }

  async #begin(args: Parameters<Begin>): Promise<unknown> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#isClosed) throw this.describe(closedError());
      const generation = this.#current.enter();
      let failure: unknown;
      const begin = guardBegin(generation.begin, this.#holder(generation), (error) => {
        failure = error;
      });
      try {
        return await begin(...args);
      } catch (error) {
        if (meansLoss(failure)) this.replace(generation);
        if (attempt === mostAttempts || !hasNotRun(failure)) throw error;
      } finally {
        generation.leave();
        this.#replicas?.wrote();
      }
    }
  }

  async #reserve(): Promise<postgres.ReservedSql> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#isClosed) throw this.describe(closedError());
      const generation = this.#current.enter();
      try {
        return await guardReserved(await generation.reserve(), this.#holder(generation), () => {
          generation.leave();
          this.#replicas?.wrote();
        });
      } catch (error) {
        generation.leave();
        if (meansLoss(error)) this.replace(generation);
        if (attempt === mostAttempts || !isUnsent(error)) throw this.describe(error);
      }
    }
  }

  #holder(generation: Generation): Holder {
    return {
      database: this.database,
      closeCursor: generation.sql.CLOSE,
      sockets: generation.sockets,
      describe: (error) => this.describe(error),
      onLoss: () => this.replace(generation),
    };
  }
}

/**
 * A query outside of a transaction. Its states: written → started → running (on this client's server) → over. In
 * `apart`, a copy of the query runs instead: on a replica or read-only connection, or as a retry if no server ran it.
 */
class PoolQuery extends QueryExecution {
  protected readonly database: string;
  protected readonly closeCursor: unknown;
  readonly #client: Client;
  readonly #route: Route;
  readonly #file: string | undefined;
  #state: 'written' | 'started' | 'apart' | 'running' | 'over' = 'written';
  #generation: Generation;
  #attempts = 0;
  #isWrite = false;

  constructor(query: RunningQuery, client: Client, route: Route, file: string | undefined) {
    super(query, mostAttempts);
    this.#client = client;
    this.#route = route;
    this.#file = file;
    this.#generation = client.current;
    this.database = client.database;
    this.closeCursor = client.current.sql.CLOSE;
  }

  protected start(): unknown {
    this.#state = 'started';
    if (this.#file === undefined) return this.#choose();
    const read = (text: string) => {
      this.query.strings = [text];
      this.#choose();
    };
    return readFile(this.#file, 'utf8').then(read, (error) => this.reject(error));
  }

  #choose(): unknown {
    const { query } = this;
    const { replicas } = this.#client;
    if (!replicas || this.#route === 'own') return this.#run();
    this.#isWrite = !isRead(textOf(query)) || !isRepeatable(query);
    const reader = this.#isWrite ? undefined : replicas.choose(this.#route === 'replicas');
    if (!reader) return this.#run();
    return this.#runApart(reader, (error) => {
      if (query.cancelled || wasCancelled(error)) return this.reject(error);
      if (!isOfStatement(error)) replicas.distrust(reader);
      // A refused write means that the query calls a function that writes, which the text does not show.
      this.#isWrite = isRefusedWrite(error);
      this.#run();
    });
  }

  #runApart(client: Client, onError: (error: unknown) => void): unknown {
    this.#state = 'apart';
    return new RunApart(this.query, client, (outcome) => {
      this.#state = 'over';
      if ('error' in outcome) onError(outcome.error);
      else this.resolve(outcome.value);
    }).start();
  }

  #run(): unknown {
    const { query } = this;
    if (this.#client.isClosed && this.#route !== 'own')
      return this.reject(this.#client.describe(closedError()));
    this.#attempts += 1;
    this.#state = 'running';
    // During a COPY a connection accepts no other query, but postgres.js would send one, which would fail.
    if (isCopy(query)) query.options.onexecute ??= () => false;
    this.#generation = this.#client.current.enter();
    return this.#generation.send(query);
  }

  protected readonly rerun = (): unknown => {
    this.#generation.leave();
    return this.#run();
  };

  protected succeeded(value: unknown): void {
    // A stream means that a COPY has started: the query settles a second time when the COPY ends.
    if (!(value instanceof Stream)) this.#end();
    this.resolve(value);
  }

  protected failed(error: unknown): void {
    // This error comes from a connection that the query no longer uses.
    if (this.#state === 'apart' && meansLoss(error)) return;
    const mayRunAgain = this.#state === 'running' && this.#attempts < mostAttempts;
    this.#end();
    if (meansLoss(error)) this.#client.replace(this.#generation);
    if (mayRunAgain && isUnsent(error)) this.#run();
    else if (mayRunAgain && hasNotRun(error) && isRepeatable(this.query))
      this.#runApart(this.#client, (again) => this.reject(again));
    else this.reject(this.#client.describe(error));
  }

  #end(): void {
    const wasRunning = this.#state === 'running';
    this.#state = 'over';
    if (!wasRunning) return;
    this.#generation.leave();
    if (this.#isWrite) this.#client.replicas?.wrote();
  }
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

/**
 * Runs a copy of a query: postgres.js keeps a query whose connection was lost, and may reject it a second time while it
 * already runs elsewhere.
 */
class RunApart extends QueryExecution {
  protected readonly database: string;
  protected readonly closeCursor = undefined;
  readonly #client: Client;
  readonly #generation: Generation;
  readonly #outer: RunningQuery;
  #onEnd: ((outcome: Outcome) => void) | undefined;

  constructor(query: RunningQuery, client: Client, onEnd: (outcome: Outcome) => void) {
    super(Object.create(query) as RunningQuery, mostAttempts);
    this.#client = client;
    this.#generation = client.current;
    this.#outer = query;
    this.#onEnd = onEnd;
    this.database = client.database;
  }

  start(): unknown {
    return this.#generation.enter().send(this.query);
  }

  protected readonly rerun = (): unknown => this.#generation.send(this.query);

  protected succeeded(value: unknown): void {
    this.#end({ value });
  }

  protected failed(error: unknown): void {
    if (meansLoss(error)) this.#client.replace(this.#generation);
    this.#end({ error: this.#client.describe(error) });
  }

  #end(outcome: Outcome): void {
    const onEnd = this.#onEnd;
    if (!onEnd) return;
    this.#onEnd = undefined;
    // The query channel reads the sent text from the outer query.
    Object.assign(this.#outer, { string: this.query.string });
    this.#generation.leave();
    onEnd(outcome);
  }
}

const closedError = () => Object.assign(new Error('The pool is closed.'), { code: 'CONNECTION_ENDED' });

/** Whether the caller gets the rows only at the end, so that a failed query can run again. */
const isRepeatable = (query: RunningQuery): boolean => {
  const { cursorFn, forEachFn, convertsRows, onlyDescribe } = query;
  return !(cursorFn || (forEachFn && !convertsRows) || isCopy(query) || onlyDescribe);
};

/** Whether the error concerns only this statement, not the connection. */
const isOfStatement = (error: unknown): boolean => (error as { severity?: string }).severity === 'ERROR';

/** Whether the user or a timeout cancelled the query. It is not run again, because it would take as long. */
const wasCancelled = (error: unknown): boolean => (error as { code?: string }).code === '57014';

const isRefusedWrite = (error: unknown): boolean => (error as { code?: string }).code === '25006';

const notOffered = async (): Promise<never> => {
  throw new ConfigurationError(
    'A pool does not listen: when its connection is lost, what was sent meanwhile is lost without a word. ' +
      'Use a client of its own, postgres(url, { max: 1 }).listen(…), and after each onlisten read what it may have missed.',
  );
};
