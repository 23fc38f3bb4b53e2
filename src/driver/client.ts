// A postgres.js client that survives the loss of its connections.
// By hand: a connection of postgres.js 3.4 that was lost under a query keeps parts of it. The next query
// on it gets the old error, or its socket never sends again. So the whole client is replaced then.
import { Stream } from 'node:stream';
import type postgres from 'postgres';
import { ConfigurationError } from '../errors.ts';
import {
  type Begin,
  type Explain,
  guardBegin,
  guardReserved,
  meansLoss,
  whenEnded,
} from './connection-loss.ts';
import type { Connected, Connector } from './connector.ts';
import { intercept, isQuery, type RunningQuery, rerunStale } from './query.ts';
import { isRead, textOf } from './reads.ts';
import type { Replicas } from './replicas.ts';
import { isUnsent, type Sockets } from './socket.ts';

/** How often a query that was never sent moves on to the next client, each of which lost its connections. */
const mostAttempts = 100;

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
    this.sql = this.#proxy(true);
    this.primary = this.#proxy(false);
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

  /** Queries, transactions and reservations that were begun and are not over, waiting ones too. */
  get running(): number {
    return [this.#current, ...this.#retired].reduce((sum, generation) => sum + generation.running, 0);
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

  #proxy(routed: boolean): Sql {
    const way = routed ? 'routed' : 'primary';
    const unsafe = (...args: Parameters<postgres.Sql['unsafe']>) =>
      this.#watch(this.#current.sql.unsafe(...args), way);
    const file = (...args: Parameters<postgres.Sql['file']>) =>
      this.#watch(this.#current.sql.file(...args), way);
    const own: Readonly<Record<string | symbol, unknown>> = {
      unsafe,
      file,
      begin: (...args: Parameters<Begin>) => this.#begin(args),
      reserve: () => this.#reserve(),
      end: () => this.close(5_000),
      notify: async (channel: string, payload: string) =>
        await unsafe('SELECT pg_notify($1, $2)', [channel, payload]),
      listen: notOffered,
      subscribe: notOffered,
    };
    return new Proxy(this.#current.sql as Sql, {
      apply: (_, receiver, args) => this.#watch(Reflect.apply(this.#current.sql, receiver, args), way),
      get: (_, property) => own[property] ?? Reflect.get(this.#current.sql, property),
    });
  }

  /** Every query passes here, whichever way it was written; it runs when it is awaited. */
  #watch<Result>(result: Result, way: 'routed' | 'primary' | 'own'): Result {
    if (!isQuery(result)) return result;
    const query = result as unknown as RunningQuery;
    let generation = this.#current;
    let attempts = 0;
    let writes = false;
    let isRunning = false;
    const start = () => {
      if (!this.#replicas || way === 'own') return run();
      writes = !isRead(textOf(query)) || !isRepeatable(query);
      const reader = writes ? undefined : this.#replicas.choose(way === 'routed');
      if (!reader) return run();
      return reader.#read(query, (error) => {
        // What is not running is passed on.
        if (query.cancelled || wasCancelled(error)) return query.reject(error);
        if (!isOfStatement(error)) this.#replicas?.distrust(reader);
        // A function that writes, which no text shows.
        writes = isRefusedWrite(error);
        run();
      });
    };
    const run = () => {
      if (this.#isClosed && way !== 'own') return query.reject(closedError());
      attempts += 1;
      isRunning = true;
      // A connection with a COPY takes no other query, and postgres.js would send it one that then fails.
      if (isCopy(query)) query.options.onexecute ??= () => false;
      generation = this.#current.enter();
      return generation.handler(query);
    };
    const settle = () => {
      if (!isRunning) return;
      isRunning = false;
      generation.leave();
      if (writes) this.#replicas?.wrote();
    };
    intercept(query, {
      resolve: (value, pass) => {
        // A COPY has only begun when its stream is there.
        if (query.streaming && value instanceof Stream) value.once('close', settle);
        else settle();
        pass(value);
      },
      reject: (error, pass) => {
        const wasRunning = isRunning;
        settle();
        if (meansLoss(error)) this.#replace(generation);
        if (wasRunning && attempts < mostAttempts && isUnsent(error)) run();
        else pass(this.describe(error));
      },
    });
    const again = () => {
      isRunning = false;
      generation.leave();
      run();
    };
    rerunStale(query, again, mostAttempts);
    query.handler = start;
    return result;
  }

  /**
   * Runs a read here, as a query object of its own: postgres.js keeps one whose connection was lost, and
   * rejects it a second time, when it may be running again elsewhere.
   */
  #read(query: RunningQuery, onError: (error: unknown) => void): unknown {
    const generation = this.#current.enter();
    let isOver = false;
    const end = (then: (outcome: unknown) => void) => (outcome: unknown) => {
      if (isOver) return;
      isOver = true;
      generation.leave();
      then(outcome);
    };
    const { resolve } = query;
    const failed = end((error) => {
      if (meansLoss(error)) this.#replace(generation);
      onError(this.describe(error));
    });
    const own = { resolve: { value: end(resolve) }, reject: { value: failed } };
    const read: RunningQuery = Object.create(query, own);
    rerunStale(read, () => generation.handler(read), mostAttempts);
    return generation.handler(read);
  }

  async #begin(args: Parameters<Begin>): Promise<unknown> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#isClosed) throw this.describe(closedError());
      const generation = this.#current.enter();
      let failure: unknown;
      const begin = guardBegin(generation.begin, this.#explain(generation), (error) => {
        failure = error;
      });
      try {
        return await begin(...args);
      } catch (error) {
        if (meansLoss(failure)) this.#replace(generation);
        if (attempt === mostAttempts || !isUnsent(failure)) throw error;
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
        return await guardReserved(await generation.reserve(), this.#explain(generation), () => {
          generation.leave();
          this.#replicas?.wrote();
        });
      } catch (error) {
        generation.leave();
        if (meansLoss(error)) this.#replace(generation);
        if (attempt === mostAttempts || !isUnsent(error)) throw this.describe(error);
      }
    }
  }

  #explain(generation: Generation): Explain {
    const { reasonOf, sockets } = generation;
    const describe = (error: unknown) => this.describe(error);
    return { sockets, reasonOf, describe, onLoss: () => this.#replace(generation) };
  }

  /** Lets new queries go to a new client, unless this one was made since `moment`. */
  renew(moment: number): void {
    if (this.#current.madeAt < moment) this.#replace(this.#current);
  }

  /** Lets a client finish what runs on its other connections, while new queries go to a new one. */
  #replace(generation: Generation, error?: Error): void {
    if (generation !== this.#current || this.#isClosed) return;
    this.#current = this.#connect();
    this.#retired.add(generation);
    generation.retire(error).finally(() => this.#retired.delete(generation));
  }

  #connect(): Generation {
    const generation: Generation = new Generation(this.#connector.connect(), (error) => {
      // More than the connections that are tried: the others wait for one, and would be tried in turns.
      if (generation.running > generation.max) this.#replace(generation, error);
    });
    return generation;
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

/** By the user, or because it took too long: a second time it would take as long. */
const wasCancelled = (error: unknown): boolean => (error as { code?: string }).code === '57014';

const isRefusedWrite = (error: unknown): boolean => (error as { code?: string }).code === '25006';

const notOffered = async (): Promise<never> => {
  throw new ConfigurationError(
    'A pool does not listen: when its connection is lost, what was sent meanwhile is lost without a word. ' +
      'Use a client of its own, postgres(url, { max: 1 }).listen(…), and after each onlisten read what it may have missed.',
  );
};

/** One postgres.js client, and what runs on it. */
class Generation {
  readonly madeAt = performance.now();
  readonly sql: postgres.Sql;
  readonly sockets: Sockets;
  readonly handler: RunningQuery['handler'];
  readonly begin: Begin;
  #running = 0;
  #reserving = 0;
  #idle: (() => void)[] = [];
  #ended: Promise<void> | undefined;

  constructor({ sql, sockets }: Connected, onDown: (error: Error) => void) {
    this.sql = sql;
    this.sockets = sockets;
    sockets.onDown = onDown;
    // A query that is never awaited never runs: this one only shows where queries go.
    const { handler } = sql.unsafe('') as unknown as RunningQuery;
    this.handler = (query) => whenEnded(sockets, query, handler);
    this.begin = async (...args) => {
      while (sockets.ending) await sockets.ending;
      return (sql.begin as unknown as Begin)(...args);
    };
  }

  get running(): number {
    return this.#running;
  }

  get max(): number {
    return this.sql.options.max;
  }

  /** What the server said about the end of the connection that `error` is about. */
  readonly reasonOf = (error: unknown): unknown => this.sockets.reasonOf(error);

  /**
   * Finishes what runs on its connections, and opens no other. What waits for one gets `error`; without
   * it, it is unsent.
   */
  async retire(error?: Error): Promise<void> {
    this.sockets.retire(error);
    await this.end();
  }

  /** postgres.js never hands out a new connection on which it has not asked for types first. */
  async reserve(): Promise<postgres.ReservedSql> {
    const options = this.sql.options as { fetch_types: boolean };
    this.#reserving += 1;
    options.fetch_types = true;
    try {
      while (this.sockets.ending) await this.sockets.ending;
      return await this.sql.reserve();
    } finally {
      this.#reserving -= 1;
      options.fetch_types = this.#reserving > 0;
    }
  }

  enter(): this {
    this.#running += 1;
    return this;
  }

  leave(): void {
    this.#running -= 1;
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Closes the connections once nothing runs, or after `timeoutMs`, whatever still holds one then. */
  async end(timeoutMs?: number): Promise<void> {
    this.#ended ??= this.#end();
    if (timeoutMs === undefined) return this.#ended;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => resolve(this.#close()), timeoutMs);
    });
    await Promise.race([this.#ended, late]).finally(() => clearTimeout(timer));
  }

  async #end(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.#close();
  }

  async #close(): Promise<void> {
    await this.sql.end({ timeout: 0 });
    this.sockets.close();
  }
}
