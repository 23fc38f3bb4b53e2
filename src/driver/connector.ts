// Creates postgres.js clients for a URL, with sockets to the right host.
import postgres from 'postgres';
import { withoutTargetVariable } from '../config.ts';
import { ConfigurationError } from '../errors.ts';
import { type ArrayType, arrayTypesSql, learnArrayTypes } from './array-types.ts';
import { clientOptions, connectTimeoutMs, type DatabasePoolOptions, longestTimer } from './client-options.ts';
import type { DatabaseUrl, Host } from './database-url.ts';
import { type Address, describeConnectionError } from './describe-connection-error.ts';
import { Failover, type HostState, hostStateSql } from './failover.ts';
import { requireSessionSettings, sessionSettingsSql } from './session-settings.ts';
import { Pace, type SocketOptions, Sockets } from './socket.ts';
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
  readonly #timeoutMs: number;
  /** Undefined for a single host with target `any`: there is nothing to choose. */
  readonly #failover: Failover | undefined;
  readonly #pace = new Pace();
  readonly #asking = new Set<Sockets>();
  #isAborted = false;
  #types: Promise<readonly ArrayType[]> | undefined;

  constructor(options: DatabasePoolOptions, url: DatabaseUrl) {
    this.#options = options;
    this.#url = url;
    // 0 means no limit, but the search for a host must end.
    this.#timeoutMs = connectTimeoutMs(options, url) || 10_000;
    const host = url.hosts.map(({ host, port }) => `${host}:${port}`).join(',');
    this.#address = { database: url.database, host };
    // Report a missing certificate file here, not in the first query.
    encryptionOf(options.ssl, url);
    const { hosts, target } = url;
    if (hosts.length === 1 && target === 'any') return;
    const probe = (at: Host) => this.#probe(at);
    this.#failover = new Failover({ hosts, target, timeoutMs: this.#timeoutMs, probe });
  }

  connect(): Connected {
    const failover = this.#failover;
    const connected = this.#open(this.#options, {
      pick: () => failover?.pick() ?? (this.#url.hosts[0] as Host),
      prepare: async (host) => learnArrayTypes(connected.sql, await this.#arrayTypes(host)),
      onRefused: () => failover?.forget(),
      isReplaced: failover?.mayMove ? (host) => failover.isReplaced(host) : undefined,
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

  /** Stops the search for the right host. */
  close(): void {
    this.#failover?.close();
  }

  /** Aborts all current and future queries on separate connections (see `#ask`). */
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
      // Read for each connection, because certificates are renewed while the process runs.
      get encryption() {
        return encryptionOf(options.ssl, url);
      },
      requireAuth: url.parameters.get('require_auth'),
    });
    // The types declare a socket and a boolean, but postgres.js accepts functions.
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

  /** Loads the array types once for all connections, and again only after a failure. */
  #arrayTypes(host: Host): Promise<readonly ArrayType[]> {
    this.#types ??= this.#ask(host, (sql, sockets) => this.#learn(sql, sockets)).catch((error: unknown) => {
      this.#types = undefined;
      throw error;
    });
    return this.#types;
  }

  async #learn(sql: postgres.Sql, sockets: Sockets): Promise<readonly ArrayType[]> {
    // Not in parallel: if the first query fails, the second would open another connection.
    const types = await sql.unsafe<ArrayType[]>(arrayTypesSql);
    const [settings] = await sql.unsafe<Record<string, string>[]>(sessionSettingsSql);
    if (this.#options.pgbouncer === undefined && !this.#url.parameters.has('pgbouncer')) {
      requireNoProxy(sockets.pid, Number(settings?.pid), this.#address);
    }
    if (!this.#options.hasServerDefaults) requireSessionSettings(settings ?? {}, this.#url.database);
    return types;
  }

  /** Runs queries on a separate connection, so that its failure does not affect the pool. */
  async #ask<Answer>(
    host: Host,
    question: (sql: postgres.Sql, sockets: Sockets) => Promise<Answer>,
  ): Promise<Answer> {
    const { sql, sockets } = this.#open({ ...this.#options, max: 1 }, { pick: () => host });
    if (this.#isAborted) sockets.abort();
    this.#asking.add(sockets);
    // The login has its own limit. This one is for a server that falls silent after the login.
    const late = Object.assign(new Error(`${host.host}:${host.port} does not answer.`), {
      code: 'CONNECT_TIMEOUT',
    });
    const timer = setTimeout(() => sockets.abort(late), Math.min(2 * this.#timeoutMs, longestTimer));
    try {
      return await question(sql, sockets);
    } finally {
      clearTimeout(timer);
      this.#asking.delete(sockets);
      await sql.end({ timeout: 0 });
      sockets.close();
    }
  }
}

/**
 * Refuses a proxy that shares sessions between clients. It would mix up prepared statements, so that some queries wait
 * forever.
 * @param named Process id from the login.
 * @param asked Process id from a query; 0 if the server is a single process, such as PGlite.
 * @throws ConfigurationError if the process ids differ.
 */
function requireNoProxy(named: number | undefined, asked: number, { database, host }: Address): void {
  if (named === undefined || asked === 0 || named === asked) return;
  throw new ConfigurationError(
    `${database} at ${host}: a proxy such as PgBouncer answers there. Add pgbouncer=true to the URL (or set the option ` +
      'pgbouncer), or pgbouncer=false if each client has a session of its own there (pool_mode = session).',
  );
}
