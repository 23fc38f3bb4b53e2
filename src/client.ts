// A postgres.js client that survives the loss of its connections.
// By hand: a connection of postgres.js 3.4 that was lost under a query keeps parts of it. The next query
// on it gets the old error, or its socket never sends again. So the whole client is replaced then.
import type postgres from 'postgres';
import { type Begin, guardBegin, guardReserved, meansLoss } from './connection-loss.ts';

/** The parts of a postgres.js query that its own code calls. */
interface RunningQuery {
  handler: (query: RunningQuery) => unknown;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

/** Ends of a session that no login ends with. A query that gets one waited for a connection, and never ran. */
const sessionEnds = ['57P01', '57P02', '57P04', '57P05', '25P03', '25P04'];
/** Each lost connection of a client can hand its old error to one query. */
const mostAttempts = 100;

export class Client {
  readonly sql: postgres.Sql;
  readonly #connect: () => postgres.Sql;
  readonly #describe: (error: unknown) => unknown;
  readonly #retired = new Set<Generation>();
  #current: Generation;

  /** @param describe turns an error of a connection into ours. */
  constructor(connect: () => postgres.Sql, describe: (error: unknown) => unknown) {
    this.#connect = connect;
    this.#describe = describe;
    this.#current = new Generation(connect());
    this.sql = this.#proxy();
  }

  /** Queries, transactions and reservations that were begun and are not over, waiting ones too. */
  get running(): number {
    return [this.#current, ...this.#retired].reduce((sum, generation) => sum + generation.running, 0);
  }

  /** Waits up to `timeoutMs` for running queries, then closes every connection. */
  async close(timeoutMs: number): Promise<void> {
    await Promise.all([this.#current, ...this.#retired].map((generation) => generation.end(timeoutMs)));
  }

  #proxy(): postgres.Sql {
    const unsafe = (...args: Parameters<postgres.Sql['unsafe']>) =>
      this.#watch(this.#current.sql.unsafe(...args));
    const file = (...args: Parameters<postgres.Sql['file']>) => this.#watch(this.#current.sql.file(...args));
    const own: Readonly<Record<string | symbol, unknown>> = {
      unsafe,
      file,
      begin: (...args: Parameters<Begin>) => this.#begin(args),
      reserve: () => this.#reserve(),
      end: () => this.close(5_000),
    };
    return new Proxy(this.#current.sql, {
      apply: (_, receiver, args) => this.#watch(Reflect.apply(this.#current.sql, receiver, args)),
      get: (_, property) => own[property] ?? Reflect.get(this.#current.sql, property),
    });
  }

  /** Every query passes here, whichever way it was written; it runs when it is awaited. */
  #watch<Result>(result: Result): Result {
    if (!(result instanceof Promise && 'handler' in result)) return result;
    const query = result as unknown as RunningQuery;
    const { resolve, reject } = query;
    let generation = this.#current;
    let attempts = 0;
    const run = () => {
      attempts += 1;
      generation = this.#current.enter();
      return generation.handler(query);
    };
    query.handler = run;
    query.resolve = (value) => {
      generation.leave();
      resolve(value);
    };
    query.reject = (error) => {
      generation.leave();
      if (meansLoss(error)) this.#replace(generation);
      if (attempts < mostAttempts && neverRan(error)) run();
      else reject(this.#describe(error));
    };
    return result;
  }

  async #begin(args: Parameters<Begin>): Promise<unknown> {
    for (let attempt = 1; ; attempt += 1) {
      const generation = this.#current.enter();
      try {
        return await guardBegin(generation.begin)(...args);
      } catch (error) {
        if (meansLoss(error)) this.#replace(generation);
        if (attempt === mostAttempts || !neverRan(error)) throw error;
      } finally {
        generation.leave();
      }
    }
  }

  async #reserve(): Promise<postgres.ReservedSql> {
    const generation = this.#current.enter();
    try {
      return guardReserved(await generation.sql.reserve(), () => generation.leave());
    } catch (error) {
      generation.leave();
      if (meansLoss(error)) this.#replace(generation);
      throw this.#describe(error);
    }
  }

  /** Lets a client finish what runs on its other connections, while new queries go to a new one. */
  #replace(generation: Generation): void {
    if (generation !== this.#current || generation.isEnding) return;
    this.#current = new Generation(this.#connect());
    this.#retired.add(generation);
    generation.end().finally(() => this.#retired.delete(generation));
  }
}

/** Only a statement's own error has a place in SQL or a query; the end of a session before it began has not. */
function neverRan(error: unknown): boolean {
  const { code, severity } = error as { code?: string; severity?: string };
  return severity === 'FATAL' && sessionEnds.includes(code ?? '');
}

/** One postgres.js client, and what runs on it. */
class Generation {
  readonly sql: postgres.Sql;
  readonly handler: RunningQuery['handler'];
  readonly begin: Begin;
  #running = 0;
  #idle: (() => void)[] = [];
  #ended: Promise<void> | undefined;

  constructor(sql: postgres.Sql) {
    this.sql = sql;
    // A query that is never awaited never runs: this one only shows where queries go.
    this.handler = (sql.unsafe('') as unknown as RunningQuery).handler;
    this.begin = sql.begin as unknown as Begin;
  }

  get running(): number {
    return this.#running;
  }

  get isEnding(): boolean {
    return this.#ended !== undefined;
  }

  enter(): this {
    this.#running += 1;
    return this;
  }

  leave(): void {
    this.#running -= 1;
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Closes the connections once nothing runs, or after `timeoutMs`. */
  end(timeoutMs?: number): Promise<void> {
    this.#ended ??= this.#end();
    if (timeoutMs === undefined) return this.#ended;
    const timer = setTimeout(() => this.sql.end({ timeout: 0 }), timeoutMs);
    return this.#ended.finally(() => clearTimeout(timer));
  }

  async #end(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.sql.end({ timeout: 0 });
  }
}
