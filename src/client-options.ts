// From pool options and a parsed URL to the options of postgres.js.
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import type postgres from 'postgres';
import { applicationName } from './config.ts';
import type { DatabaseUrl, SslMode } from './database-url.ts';

const keepAliveSeconds = 15;

type ClientOptions = postgres.Options<Record<string, postgres.PostgresType>>;

/** Connections of a pool, where its options name no other number. */
export const defaultMax = 10;

export interface DatabasePoolOptions {
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
  /** Behind PgBouncer or another transaction-pooling proxy: no prepared statements. Also `?pgbouncer=true` in the URL. */
  pgbouncer?: boolean;
  /**
   * URLs of streaming standbys of the same database. Reads outside of transactions go to them, except
   * what must not be late: see `Pool.primary`. Each may hold `max` connections.
   */
  replicas?: readonly string[];
  /** A replica this many milliseconds behind gets no reads. Default 10,000. */
  replicaMaxLagMs?: number;
  /** Overrides what `sslmode` of the URL says. */
  ssl?: boolean | ConnectionOptions;
  /** Receives NOTICE and WARNING messages. Default: dropped. */
  onNotice?: (notice: { severity?: string; message?: string }) => void;
}

/** Parameters that libpq and other clients keep for themselves: the server would refuse them. */
const clientParameters = new Set(
  ['pgbouncer', 'application_name', 'connect_timeout', 'password', 'passfile', 'service']
    .concat([
      'sslrootcert',
      'sslcert',
      'sslkey',
      'sslpassword',
      'sslcompression',
      'sslcrl',
      'sslsni',
      'sslnegotiation',
    ])
    .concat([
      'ssl_min_protocol_version',
      'ssl_max_protocol_version',
      'channel_binding',
      'require_auth',
      'requirepeer',
    ])
    .concat(['gssencmode', 'krbsrvname', 'gsslib', 'gssdelegation', 'load_balance_hosts', 'tcp_user_timeout'])
    .concat(['keepalives', 'keepalives_idle', 'keepalives_interval', 'keepalives_count'])
    // Prisma's.
    .concat(['schema', 'connection_limit', 'pool_timeout', 'socket_timeout']),
);

export function clientOptions(options: DatabasePoolOptions, url: DatabaseUrl): ClientOptions {
  const serverSettings = [...url.parameters].filter(([name]) => !clientParameters.has(name));
  const { application_name, sslrootcert, sslcert, sslkey } = Object.fromEntries(url.parameters);
  const pgbouncer = isProxied(options, url);
  const idleTimeoutMs = options.idleTimeoutMs ?? 60_000;
  // PgBouncer refuses a startup parameter that it does not track.
  const statementTimeout = options.statementTimeoutMs && !pgbouncer ? options.statementTimeoutMs : undefined;
  const [first] = url.hosts;
  // For messages only: sockets come from src/socket.ts, which chooses among several hosts. postgres.js
  // takes lists for both, and only a list keeps an IPv6 address whole; its types lag.
  const hosts = { host: [first?.host], port: [first?.port] };
  return {
    ...(hosts as unknown as { host: string; port: number }),
    database: url.database,
    ...(url.user !== undefined && { user: url.user }),
    ...(url.password !== undefined && { password: url.password }),
    ssl:
      options.ssl ??
      sslOptions(url.sslMode, { rootCertificate: sslrootcert, certificate: sslcert, key: sslkey }),
    max: options.max ?? defaultMax,
    connect_timeout: connectTimeoutMs(options, url) / 1000,
    // A statement whose server vanished without a word fails after this and 10 seconds more.
    keep_alive: keepAliveSeconds,
    // Its own grows to 20 seconds, which a server that is back would be waited for.
    backoff: ((retries: number) => Math.min(3 ** retries / 100, 1)) as unknown as boolean,
    ...(idleTimeoutMs > 0 && { idle_timeout: idleTimeoutMs / 1000 }),
    ...(options.maxLifetimeMs !== undefined && { max_lifetime: options.maxLifetimeMs / 1000 || null }),
    prepare: !pgbouncer,
    // src/array-types.ts does it, where a failure is caught.
    fetch_types: false,
    onnotice: options.onNotice ?? (() => undefined),
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
        options.applicationName ?? application_name ?? applicationName() ?? `atriz ${url.database}`,
      TimeZone: 'UTC',
      ...(statementTimeout && { statement_timeout: statementTimeout }),
    },
  };
}

/** Most milliseconds until a host has accepted a connection, and again until it has accepted the login. */
export const connectTimeoutMs = (options: DatabasePoolOptions, url: DatabaseUrl): number =>
  options.connectTimeoutMs ?? Number(url.parameters.get('connect_timeout') ?? 10) * 1000;

/** Whether the option or `?pgbouncer=true` says that a proxy shares server sessions between clients. */
export function isProxied(options: DatabasePoolOptions, url: DatabaseUrl): boolean {
  return options.pgbouncer ?? ['true', '1'].includes(url.parameters.get('pgbouncer') ?? '');
}

// infinity and -infinity are no dates: they stay text instead of becoming an invalid Date.
const parseTimestamp = (text: string): Date | string => (text.endsWith('infinity') ? text : new Date(text));

/** libpq's meaning of each mode; a root certificate turns `require` into `verify-ca`. */
function sslOptions(
  mode: SslMode | undefined,
  {
    rootCertificate,
    certificate,
    key,
  }: Readonly<Record<'rootCertificate' | 'certificate' | 'key', string | undefined>>,
): boolean | 'prefer' | ConnectionOptions {
  const files = {
    ...(rootCertificate && rootCertificate !== 'system' && { ca: readFileSync(rootCertificate) }),
    ...(certificate && { cert: readFileSync(certificate) }),
    ...(key && { key: readFileSync(key) }),
  };
  const anyHost = { checkServerIdentity: () => undefined };
  switch (mode) {
    case undefined:
      return rootCertificate ? { ...files, rejectUnauthorized: true } : false;
    case 'disable':
      return false;
    case 'allow':
    case 'prefer':
      return 'prefer';
    case 'require':
      if (!rootCertificate) return { ...files, rejectUnauthorized: false };
      return { ...files, ...anyHost, rejectUnauthorized: true };
    case 'verify-ca':
      return { ...files, ...anyHost, rejectUnauthorized: true };
    case 'verify-full':
      return { ...files, rejectUnauthorized: true };
  }
}
