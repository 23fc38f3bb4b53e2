// From a URL to postgres.js clients whose sockets go to the right host.
import postgres from 'postgres';
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
    const [first] = this.#url.hosts as [Host];
    const failover = this.#failover;
    return this.#open(
      this.#options,
      failover ? { pick: () => failover.pick(), onRefused: () => failover.forget() } : { pick: () => first },
    );
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

  async #probe(host: Host): Promise<HostState> {
    const { sql, sockets } = this.#open({ ...this.#options, max: 1 }, { pick: () => host });
    try {
      const [state] = await sql.unsafe<HostState[]>(hostStateSql);
      return state as HostState;
    } finally {
      await sql.end({ timeout: 0 });
      sockets.close();
    }
  }
}
