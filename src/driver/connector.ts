// From a URL to postgres.js clients whose sockets go to the right host.
import postgres from 'postgres';
import { withoutTargetVariable } from '../config.ts';
import { ConfigurationError } from '../errors.ts';
import { type ArrayType, arrayTypesSql, learnArrayTypes } from './array-types.ts';
import { clientOptions, connectTimeoutMs, type DatabasePoolOptions } from './client-options.ts';
import { type Address, describeConnectionError } from './connection-error.ts';
import type { DatabaseUrl } from './database-url.ts';
import { Failover, type HostState, hostStateSql } from './failover.ts';
import { requireSessionSettings, sessionSettingsSql } from './session-settings.ts';
import { type Host, Pace, type SocketOptions, Sockets } from './socket.ts';
import { encryptionOf } from './tls.ts';

/** One postgres.js client and its sockets. */
export interface Connected {
  readonly sql: postgres.Sql;
  readonly sockets: Sockets;
}

export class Connector {
  readonly #options: DatabasePoolOptions;
  readonly #url: DatabaseUrl;
  readonly #address: Address;
  /** Undefined for a single host of any kind: there is nothing to choose. */
  readonly #failover: Failover | undefined;
  readonly #pace = new Pace();
  readonly #asking = new Set<Sockets>();
  #isAborted = false;
  #types: Promise<readonly ArrayType[]> | undefined;

  constructor(options: DatabasePoolOptions, url: DatabaseUrl) {
    this.#options = options;
    this.#url = url;
    const host = url.hosts.map(({ host, port }) => `${host}:${port}`).join(',');
    this.#address = { database: url.database, host };
    // A file that is missing is the caller's mistake: said here, not by the first query.
    encryptionOf(options.ssl, url);
    const { hosts, target } = url;
    if (hosts.length === 1 && target === 'any') return;
    // 0 means without limit, which a promotion that never comes is not waited for.
    const timeoutMs = connectTimeoutMs(options, url) || 10_000;
    this.#failover = new Failover({ hosts, target, timeoutMs, probe: (at) => this.#probe(at) });
  }

  connect(): Connected {
    const failover = this.#failover;
    const connected = this.#open(this.#options, {
      pick: () => failover?.pick() ?? (this.#url.hosts[0] as Host),
      prepare: async (host) => learnArrayTypes(connected.sql, await this.#arrayTypes(host)),
      onRefused: () => failover?.forget(),
      pace: this.#pace,
    });
    return connected;
  }

  get database(): string {
    return this.#address.database;
  }

  describe(error: unknown): unknown {
    return describeConnectionError(error, this.#address);
  }

  /** Ends a search for the right host. */
  close(): void {
    this.#failover?.close();
  }

  /** Ends what is asked on connections of its own, now and later. */
  abort(): void {
    this.#isAborted = true;
    for (const sockets of this.#asking) sockets.abort();
  }

  #open(
    options: DatabasePoolOptions,
    choice: Omit<SocketOptions, 'timeoutMs' | 'encryption' | 'requireAuth'>,
  ): Connected {
    const url = this.#url;
    const sockets = new Sockets({
      ...choice,
      timeoutMs: connectTimeoutMs(options, url),
      // Read again for each connection: certificates are renewed while the process runs.
      get encryption() {
        return encryptionOf(options.ssl, url);
      },
      requireAuth: url.parameters.get('require_auth'),
    });
    // Its types want a socket and a boolean, its code takes functions.
    const own = {
      socket: sockets.connect as unknown as () => import('node:net').Socket,
      connect_timeout: 0,
      backoff: (() => 0) as unknown as boolean,
    };
    const sql = withoutTargetVariable(() => postgres({ ...clientOptions(options, url), ...own }));
    return { sql: sql as unknown as postgres.Sql, sockets };
  }

  #probe(host: Host): Promise<HostState> {
    return this.#ask(host, async (sql) => {
      const [state] = await sql.unsafe<HostState[]>(hostStateSql);
      return state as HostState;
    });
  }

  /** Once for all connections; again after a failure. */
  #arrayTypes(host: Host): Promise<readonly ArrayType[]> {
    this.#types ??= this.#ask(host, (sql, sockets) => this.#learn(sql, sockets)).catch((error: unknown) => {
      this.#types = undefined;
      throw error;
    });
    return this.#types;
  }

  async #learn(sql: postgres.Sql, sockets: Sockets): Promise<readonly ArrayType[]> {
    // One after the other: where the first fails, the second would open another connection.
    const types = await sql.unsafe<ArrayType[]>(arrayTypesSql);
    const [settings] = await sql.unsafe<Record<string, string>[]>(sessionSettingsSql);
    if (this.#options.pgbouncer === undefined && !this.#url.parameters.has('pgbouncer')) {
      requireNoProxy(sockets.pid, Number(settings?.pid), this.#address);
    }
    if (!this.#options.hasServerDefaults) requireSessionSettings(settings ?? {}, this.#url.database);
    return types;
  }

  /** On a connection of its own: nothing of the pool's may depend on how it ends. */
  async #ask<Answer>(
    host: Host,
    question: (sql: postgres.Sql, sockets: Sockets) => Promise<Answer>,
  ): Promise<Answer> {
    const { sql, sockets } = this.#open({ ...this.#options, max: 1 }, { pick: () => host });
    if (this.#isAborted) sockets.abort();
    this.#asking.add(sockets);
    try {
      return await question(sql, sockets);
    } finally {
      this.#asking.delete(sockets);
      await sql.end({ timeout: 0 });
      sockets.close();
    }
  }
}

/**
 * Behind a proxy that shares sessions, statements that one of them prepared meet another, and some wait for ever.
 * @param named the process that answered the login.
 * @param asked the process that answers queries; 0 where the server is a single process, as PGlite is.
 * @throws ConfigurationError where that is another one.
 */
function requireNoProxy(named: number | undefined, asked: number, { database, host }: Address): void {
  if (named === undefined || asked === 0 || named === asked) return;
  throw new ConfigurationError(
    `${database} at ${host}: a proxy such as PgBouncer answers there. Add pgbouncer=true to the URL (or set the option ` +
      'pgbouncer), or pgbouncer=false if each client has a session of its own there (pool_mode = session).',
  );
}
