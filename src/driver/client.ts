// A postgres.js client that survives the loss of its connections: a lost connection of postgres.js 3.4 keeps parts of
// its query, so that the next one gets the old error or is never sent. Its whole client is replaced then.
import { readFile } from 'node:fs/promises';
import { Stream } from 'node:stream';
import type postgres from 'postgres';
import { ConfigurationError } from '../errors.ts';
import type { Connector } from './connector.ts';
import { Generation } from './generation.ts';
import { type Begin, guardBegin, guardReserved, type Holder } from './held-connection.ts';
import { isQuery, QueryExecution, type RunningQuery } from './query.ts';
import { isRead, textOf } from './reads.ts';
import type { Replicas } from './replicas.ts';
import { hasNotRun, isUnsent, meansLoss } from './socket.ts';

/** How often a query that was never sent moves on to the next client, each of which lost its connections. */
const mostAttempts = 100;

/** Where a query goes: a read perhaps to a replica; to this client's server; there, as a question of the pool itself. */
type Route = 'replicas' | 'primary' | 'own';

/** A postgres.js client, without what it does on a connection that it does not watch. */
export type Sql = postgres.Sql & Record<'listen' | 'subscribe', never>;

export class Client {
  /** Reads may go to replicas. */
  readonly sql: Sql;
  /** Everything goes to this client's own server. */
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

  /** Name of the database. */
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

  /** Queries, transactions and reservations that were begun and are not over, waiting ones too. */
  get running(): number {
    return [this.#current, ...this.#retired].reduce((sum, generation) => sum + generation.running, 0);
  }

  /** An error of a connection as one of ours. */
  describe(error: unknown): unknown {
    return this.#connector.describe(error);
  }

  /** From now on reads through `sql` go to replicas where they may. */
  readFrom(replicas: Replicas<Client>): void {
    this.#replicas = replicas;
  }

  /** A question of our own to this server, which does not count as a write of the application. */
  async ask<Row extends object>(text: string): Promise<readonly Row[]> {
    return await this.#watch(this.#current.sql.unsafe<Row[]>(text), 'own');
  }

  /** Waits up to `timeoutMs` for running queries, then closes every connection. Nothing begins after it. */
  async close(timeoutMs: number): Promise<void> {
    // What was written before runs: a query reaches its connection some turns of the queue later.
    await new Promise((resolve) => setImmediate(resolve));
    this.#isClosed = true;
    this.#connector.close();
    const ends = [this.#current, ...this.#retired].map((generation) => generation.end(timeoutMs));
    await Promise.all([...ends, this.#replicas?.close(timeoutMs)]);
    this.#connector.abort();
  }

  /** Lets new queries go to a new client, unless this one was made since `moment`. */
  renew(moment: number): void {
    if (this.#current.madeAt < moment) this.replace(this.#current);
  }

  /** Lets a client finish what runs on its other connections, while new queries go to a new one. */
  replace(generation: Generation, error?: Error): void {
    if (generation !== this.#current || this.#isClosed) return;
    this.#current = this.#connect();
    this.#retired.add(generation);
    generation.retire(error).finally(() => this.#retired.delete(generation));
  }

  #connect(): Generation {
    const generation: Generation = new Generation(this.#connector.connect(), (error) => {
      // More than the connections that are tried: the others wait for one, and would be tried in turns.
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

  /** Every query outside of a transaction passes here, whichever way it was written. */
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
 * A query outside of a transaction: written → started → running on this client's server → over. It runs `apart` on a
 * replica, and a second time where no server has run it.
 */
class PoolQuery extends QueryExecution {
  protected readonly database: string;
  protected readonly closeCursor: unknown;
  readonly #client: Client;
  readonly #route: Route;
  readonly #file: string | undefined;
  #state: 'written' | 'started' | 'apart' | 'running' | 'over' = 'written';
  /** Where it runs now. */
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
      // A function that writes, which no text shows.
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
    // A connection with a COPY takes no other query, and postgres.js would send it one that then fails.
    if (isCopy(query)) query.options.onexecute ??= () => false;
    this.#generation = this.#client.current.enter();
    return this.#generation.send(query);
  }

  protected readonly rerun = (): unknown => {
    this.#generation.leave();
    return this.#run();
  };

  protected succeeded(value: unknown): void {
    // A COPY has only begun when its stream is there.
    if (this.query.streaming && value instanceof Stream) value.once('close', () => this.#end());
    else this.#end();
    this.resolve(value);
  }

  protected failed(error: unknown): void {
    // The connection that it has left.
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
 * One run of a query as an object of its own: postgres.js keeps one whose connection was lost, and rejects it a second
 * time, when it may be running again elsewhere.
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
    // For those who hear of each query.
    Object.assign(this.#outer, { string: this.query.string });
    this.#generation.leave();
    onEnd(outcome);
  }
}

const closedError = () => Object.assign(new Error('The pool is closed.'), { code: 'CONNECTION_ENDED' });

const isCopy = ({ streaming, strings }: RunningQuery): boolean =>
  streaming === true || /^\s*copy\b/i.test(strings[0] ?? '');

/** A read whose rows nobody has seen when it fails. */
const isRepeatable = ({ cursorFn, forEachFn, streaming, onlyDescribe }: RunningQuery): boolean =>
  !(cursorFn || forEachFn || streaming || onlyDescribe);

/** What only this statement met, not the next one. */
const isOfStatement = (error: unknown): boolean => (error as { severity?: string }).severity === 'ERROR';

/** Cancelled by the user or by a timeout: it would take as long again. */
const wasCancelled = (error: unknown): boolean => (error as { code?: string }).code === '57014';

const isRefusedWrite = (error: unknown): boolean => (error as { code?: string }).code === '25006';

const notOffered = async (): Promise<never> => {
  throw new ConfigurationError(
    'A pool does not listen: when its connection is lost, what was sent meanwhile is lost without a word. ' +
      'Use a client of its own, postgres(url, { max: 1 }).listen(…), and after each onlisten read what it may have missed.',
  );
};
