// From pool options and a parsed URL to the options of postgres.js.
import type { ConnectionOptions } from 'node:tls';
import type postgres from 'postgres';
import { applicationName } from '../config.ts';
import { ConfigurationError } from '../errors.ts';
import type { DatabaseUrl } from './database-url.ts';
import type { DrizzleOptions } from './orm.ts';
import { sessionSettings } from './session-settings.ts';
import { isServerSetting } from './url-parameters.ts';

const keepAliveSeconds = 15;

type ClientOptions = postgres.Options<Record<string, postgres.PostgresType>>;

/** Connections of a pool, where its options name no other number. */
export const defaultMax = 10;

export interface DatabasePoolOptions extends DrizzleOptions {
  /** `postgresql://user:password@host:5432/database?sslmode=require`. Several hosts fail over. */
  connectionString?: string | undefined;
  /** Most connections at once. Default 10. */
  max?: number;
  /** Shown in pg_stat_activity. Default: `application_name` of the URL, PGAPPNAME, else `atriz <database>`. */
  applicationName?: string;
  /** Give up a connection attempt after this many milliseconds. Default 10,000. */
  connectTimeoutMs?: number;
  /** Close a connection that was idle this many milliseconds. Default 60,000; 0 keeps it open. */
  idleTimeoutMs?: number;
  /** Replace a connection after this many milliseconds. Default 30 to 60 minutes; 0 never. */
  maxLifetimeMs?: number;
  /** Cancel a statement after this many milliseconds. Default 0: never. Not available behind a transaction-pooling proxy. */
  statementTimeoutMs?: number;
  /**
   * true: behind PgBouncer or another transaction-pooling proxy, without prepared statements. false: behind one that
   * pools sessions. Where neither is said, a proxy is refused. Also `?pgbouncer=true` in the URL.
   */
  pgbouncer?: boolean;
  /**
   * URLs of streaming standbys of the same database. Reads outside of transactions go to them, except
   * what must not be late: see `Pool.primary`. Each may hold `max` connections, and the primary as many again,
   * on which a function that writes is found out.
   */
  replicas?: readonly string[];
  /** A replica this many milliseconds behind gets no reads. Default 10,000. */
  replicaMaxLagMs?: number;
  /** Overrides what `sslmode` of the URL says. */
  ssl?: boolean | ConnectionOptions;
  /** @internal For the doctor: sessions begin as the server makes them for a client that asks for nothing. */
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
  // For messages only: sockets come from socket.ts, which chooses among several hosts. postgres.js
  // takes lists for both, and only a list keeps an IPv6 address whole; its types lag.
  const hosts = { host: [first?.host], port: [first?.port] };
  return {
    ...(hosts as unknown as { host: string; port: number }),
    database: url.database,
    ...(url.user !== undefined && { user: url.user }),
    ...(url.password !== undefined && { password: url.password }),
    // socket.ts hands over sockets that are encrypted already.
    ssl: false,
    // PGDEBUG would put the parameters of a query that fails, such as tokens, into logs.
    debug: false,
    max: connections(options.max ?? defaultMax),
    connect_timeout: connectTimeoutMs(options, url) / 1000,
    // A statement whose server vanished without a word fails after this and 10 seconds more.
    keep_alive: keepAliveSeconds,
    ...(idleTimeoutMs > 0 && { idle_timeout: idleTimeoutMs / 1000 }),
    ...(options.maxLifetimeMs !== undefined && {
      max_lifetime: milliseconds('maxLifetimeMs', options.maxLifetimeMs) / 1000 || null,
    }),
    prepare: !pgbouncer,
    // array-types.ts does it, where a failure is caught.
    fetch_types: false,
    onnotice: () => undefined,
    types: {
      // postgres.js parses strings as dates too, which cuts microseconds off: only Date needs help.
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

/** Most milliseconds until a host has accepted a connection, and again until it has accepted the login. */
export const connectTimeoutMs = (options: DatabasePoolOptions, url: DatabaseUrl): number =>
  milliseconds(
    'connectTimeoutMs',
    options.connectTimeoutMs ?? Number(url.parameters.get('connect_timeout') ?? 10) * 1000,
  );

/** @throws ConfigurationError: with none, every query would wait for ever. */
function connections(max: number): number {
  if (Number.isInteger(max) && max >= 1 && max <= 10_000) return max;
  throw new ConfigurationError(`max is ${max}: use a number of connections from 1 to 10,000.`);
}

/** Node.js fires a longer timer at once. */
const longestTimer = 2 ** 31 - 1;

/** A time longer than the longest timer becomes 0, which means never. @throws ConfigurationError for anything but a time. */
function milliseconds(option: keyof DatabasePoolOptions, given: number): number {
  if (given >= 0) return given > longestTimer ? 0 : given;
  throw new ConfigurationError(`${option} is ${given}: use a number of milliseconds, 0 or more.`);
}

/** Whether the option or `?pgbouncer=true` says that a proxy shares server sessions between clients. */
export function isProxied(options: DatabasePoolOptions, url: DatabaseUrl): boolean {
  return options.pgbouncer ?? ['true', '1'].includes(url.parameters.get('pgbouncer') ?? '');
}

// infinity and -infinity are not dates: they stay text instead of becoming an invalid Date.
const parseTimestamp = (text: string): Date | string => (text.endsWith('infinity') ? text : new Date(text));
