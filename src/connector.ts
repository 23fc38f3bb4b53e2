// From a URL to postgres.js clients whose sockets go to the right host.
import postgres from 'postgres';
import { type ArrayType, arrayTypesSql, learnArrayTypes } from './array-types.ts';
import { clientOptions, connectTimeoutMs, type DatabasePoolOptions } from './client-options.ts';
import { type Address, describeConnectionError } from './connection-error.ts';
import type { DatabaseUrl } from './database-url.ts';
import { Failover, type HostState, hostStateSql } from './failover.ts';
import { type Host, Sockets } from './socket.ts';

/** One postgres.js client and its sockets. */
export interface Connected {
  readonly sql: postgres.Sql;
  readonly sockets: Sockets;
}

export class Connector {
  readonly #options: DatabasePoolOptions;
  readonly #url: DatabaseUrl;
  readonly #address: Address;
  /** Undefined where there is nothing to choose: one host, whatever it is. */
  readonly #failover: Failover | undefined;
  #types: Promise<readonly ArrayType[]> | undefined;

  constructor(options: DatabasePoolOptions, url: DatabaseUrl) {
    this.#options = options;
    this.#url = url;
    const host = url.hosts.map(({ host, port }) => `${host}:${port}`).join(',');
    this.#address = { database: url.database, host };
    const { hosts, target } = url;
    if (hosts.length === 1 && target === 'any') return;
    // 0 means without limit, which a promotion that never comes is not waited for.
    const timeoutMs = connectTimeoutMs(options, url) || 10_000;
    this.#failover = new Failover({ hosts, target, timeoutMs, probe: (at) => this.#probe(at) });
  }

  connect(): Connected {
    const failover = this.#failover;
    const connected = this.#open(this.#options, {
      pick: async () => {
        const host = failover ? await failover.pick() : (this.#url.hosts[0] as Host);
        learnArrayTypes(connected.sql, await this.#arrayTypes(host));
        return host;
      },
      onRefused: () => failover?.forget(),
    });
    return connected;
  }

  describe(error: unknown): unknown {
    return describeConnectionError(error, this.#address);
  }

  /** Ends a search for the right host. */
  close(): void {
    this.#failover?.close();
  }

  #open(
    options: DatabasePoolOptions,
    choice: { pick: () => Promise<Host> | Host; onRefused?: () => void },
  ): Connected {
    const sockets = new Sockets({ ...choice, timeoutMs: connectTimeoutMs(options, this.#url) });
    // Its type wants a socket, its code takes a promise of one.
    const more = { socket: sockets.connect as unknown as () => import('node:net').Socket };
    const sql = postgres({ ...clientOptions(options, this.#url), ...more });
    return { sql: sql as unknown as postgres.Sql, sockets };
  }

  #probe(host: Host): Promise<HostState> {
    return this.#ask<HostState>(host, hostStateSql).then(([state]) => state as HostState);
  }

  /** Once for all connections; again after a failure. */
  #arrayTypes(host: Host): Promise<readonly ArrayType[]> {
    this.#types ??= this.#ask<ArrayType>(host, arrayTypesSql).catch((error: unknown) => {
      this.#types = undefined;
      throw error;
    });
    return this.#types;
  }

  /** On a connection of its own: nothing of the pool's may depend on how it ends. */
  async #ask<Row extends object>(host: Host, text: string): Promise<readonly Row[]> {
    const { sql, sockets } = this.#open({ ...this.#options, max: 1 }, { pick: () => host });
    try {
      return await sql.unsafe<Row[]>(text);
    } finally {
      await sql.end({ timeout: 0 });
      sockets.close();
    }
  }
}
