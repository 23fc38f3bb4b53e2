// Converts pool options and a parsed URL to the options of postgres.js.

import type { ConnectionOptions } from 'node:tls';
import type postgres from 'postgres';
import { applicationName } from '../config.ts';
import { ConfigurationError } from '../errors.ts';
import { publishNotice } from './channels.ts';
import type { DatabaseUrl } from './database-url.ts';
import type { DrizzleOptions } from './orm.ts';
import { sessionSettings } from './session-settings.ts';
import { isServerSetting } from './url-parameters.ts';

const keepAliveSeconds = 15;

type ClientOptions = postgres.Options<Record<string, postgres.PostgresType>>;

export const defaultMax = 10;

export interface DatabasePoolOptions extends DrizzleOptions {
  /** `postgresql://user:password@host:5432/database?sslmode=require`. Several hosts mean failover. */
  connectionString?: string | undefined;
  /** Maximum number of connections. Default 10. */
  max?: number;
  /**
   * Shown in pg_stat_activity. Default: the first that is set of `application_name` of the URL, PGAPPNAME and
   * `fallback_application_name` of the URL; else `atriz <database>`.
   */
  applicationName?: string;
  /**
   * Abort a connection attempt after this many milliseconds; 0 means never. Default: `connect_timeout` of the URL (in
   * seconds), else 10,000.
   */
  connectTimeoutMs?: number;
  /** Close a connection that has been idle for this many milliseconds. Default 60,000; 0 keeps it open. */
  idleTimeoutMs?: number;
  /** Replace a connection after this many milliseconds. Default: a random time from 30 to 60 minutes; 0 means never. */
  maxLifetimeMs?: number;
  /** Cancel a statement after this many milliseconds. Default 0: never. Ignored behind a transaction-pooling proxy. */
  statementTimeoutMs?: number;
  /**
   * true: the URL leads to PgBouncer or another transaction-pooling proxy, so prepared statements are not used. false:
   * it leads to the server or a session-pooling proxy. Default: `pgbouncer` of the URL; without it, a proxy is refused.
   */
  pgbouncer?: boolean;
  /**
   * URLs of streaming standbys of the same database. They answer reads outside of transactions; for reads that must be
   * current, use `Pool.primary`. Each standby may hold `max` connections. Reads that no standby can answer use up to
   * `max` additional, read-only connections to the primary, except behind a proxy. A query fails on all these
   * connections if it calls a function that writes; it then runs again on an ordinary connection.
   */
  replicas?: readonly string[];
  /** A replica that is more than this many milliseconds behind gets no reads. Default 10,000. */
  replicaMaxLagMs?: number;
  /** Overrides `sslmode` and all other TLS parameters of the URL. */
  ssl?: boolean | ConnectionOptions;
  /** @internal For `db:doctor`: sends no session settings, so that the defaults of the server apply. */
  hasServerDefaults?: boolean;
}

export function clientOptions(options: DatabasePoolOptions, url: DatabaseUrl): ClientOptions {
  const serverSettings = [...url.parameters].filter(([name]) => isServerSetting(name));
  const { application_name, fallback_application_name } = Object.fromEntries(url.parameters);
  const pgbouncer = isProxied(options, url);
  const idleTimeoutMs = milliseconds('idleTimeoutMs', options.idleTimeoutMs ?? 60_000);
  // PgBouncer refuses a startup parameter that it does not track.
  const statementTimeout = pgbouncer
    ? 0
    : milliseconds('statementTimeoutMs', options.statementTimeoutMs ?? 0);
  const [first] = url.hosts;
  // For messages only: socket.ts opens the sockets and chooses the host. postgres.js would split a string with an IPv6
  // address at ":", so both are lists, which its types do not declare.
  const hosts = { host: [first?.host], port: [first?.port] };
  return {
    ...(hosts as unknown as { host: string; port: number }),
    database: url.database,
    ...(url.user !== undefined && { user: url.user }),
    ...(url.password !== undefined && { password: url.password }),
    // socket.ts encrypts the sockets.
    ssl: false,
    // PGDEBUG would log the parameters of failed queries, such as tokens.
    debug: false,
    max: connections(options.max ?? defaultMax),
    connect_timeout: connectTimeoutMs(options, url) / 1000,
    // If the server host disappears, a statement fails after this time plus 10 seconds.
    keep_alive: keepAliveSeconds,
    ...(idleTimeoutMs > 0 && { idle_timeout: idleTimeoutMs / 1000 }),
    ...(options.maxLifetimeMs !== undefined && {
      max_lifetime: milliseconds('maxLifetimeMs', options.maxLifetimeMs) / 1000 || null,
    }),
    prepare: !pgbouncer,
    // array-types.ts loads the types instead, and catches failures.
    fetch_types: false,
    onnotice: (notice) => publishNotice(url.database, notice),
    types: {
      // postgres.js would also convert strings to dates, which drops microseconds: convert only Date.
      date: {
        to: 1184,
        from: [1082, 1114, 1184],
        serialize: (value: unknown) => (value instanceof Date ? value.toISOString() : String(value)),
        parse: parseTimestamp,
      },
    },
    connection: {
      ...Object.fromEntries(serverSettings),
      application_name:
        options.applicationName ??
        application_name ??
        applicationName() ??
        fallback_application_name ??
        `atriz ${url.database}`,
      ...(!options.hasServerDefaults && sessionSettings(pgbouncer)),
      ...(statementTimeout > 0 && { statement_timeout: statementTimeout }),
    },
  };
}

/** Milliseconds for connection, TLS and login together; 0 means no limit. */
export const connectTimeoutMs = (options: DatabasePoolOptions, url: DatabaseUrl): number =>
  milliseconds(
    'connectTimeoutMs',
    options.connectTimeoutMs ?? Number(url.parameters.get('connect_timeout') ?? 10) * 1000,
  );

/** @throws ConfigurationError for a number out of range: with 0, every query would wait forever. */
function connections(max: number): number {
  if (Number.isInteger(max) && max >= 1 && max <= 10_000) return max;
  throw new ConfigurationError(`max is ${max}: use a number of connections from 1 to 10,000.`);
}

/** In milliseconds. A longer Node.js timer fires immediately. */
export const longestTimer = 2 ** 31 - 1;

/** A time above `longestTimer` becomes 0 (never). @throws ConfigurationError for a negative number or NaN. */
function milliseconds(option: keyof DatabasePoolOptions, given: number): number {
  if (given >= 0) return given > longestTimer ? 0 : given;
  throw new ConfigurationError(`${option} is ${given}: use a number of milliseconds, 0 or more.`);
}

/** Whether the option or `?pgbouncer=true` says that a proxy shares server sessions between clients. */
export function isProxied(options: DatabasePoolOptions, url: DatabaseUrl): boolean {
  return options.pgbouncer ?? ['true', '1'].includes(url.parameters.get('pgbouncer') ?? '');
}

// infinity and -infinity are not dates: they stay text instead of becoming an invalid Date.
export const parseTimestamp = (text: string): Date | string =>
  text.endsWith('infinity') ? text : new Date(text);
