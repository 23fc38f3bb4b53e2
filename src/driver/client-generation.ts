// A generation is one postgres.js client and its queries. A pool replaces it when a connection is lost.
import type postgres from 'postgres';
import type { Connected } from './connector.ts';
import type { Begin } from './held-connection.ts';
import type { RunningQuery } from './query.ts';
import type { Sockets } from './socket.ts';

export class Generation {
  readonly madeAt = performance.now();
  readonly sql: postgres.Sql;
  readonly sockets: Sockets;
  readonly #handler: RunningQuery['handler'];
  #running = 0;
  #reserving = 0;
  #idle: (() => void)[] = [];
  #ended: Promise<void> | undefined;

  constructor({ sql, sockets }: Connected, onDown: (error: Error) => void) {
    this.sql = sql;
    this.sockets = sockets;
    sockets.onDown = onDown;
    // This query is not awaited, so it never runs: it only gives access to the handler of the client.
    this.#handler = (sql.unsafe('') as unknown as RunningQuery).handler;
  }

  /** Number of queries, transactions and reservations that have called `enter` and not yet `leave`. */
  get running(): number {
    return this.#running;
  }

  get max(): number {
    return this.sql.options.max;
  }

  send(query: RunningQuery): unknown {
    return this.sockets.afterEnding(query, () => this.#handler(query));
  }

  readonly begin: Begin = async (...args) => {
    while (this.sockets.ending) await this.sockets.ending;
    return (this.sql.begin as unknown as Begin)(...args);
  };

  /** reserve() of postgres.js hands out a new connection only with `fetch_types`: set it during the call. */
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

  /**
   * Opens no new connections, and closes the existing ones when nothing runs any more. Waiting queries fail with
   * `error`, by default an error for which `isUnsent` is true.
   */
  async retire(error?: Error): Promise<void> {
    this.sockets.retire(error);
    await this.end();
  }

  /** Closes the connections when nothing runs any more, at the latest after `timeoutMs`. */
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
