// Reads and masks PostgreSQL URLs, as libpq understands them.
import { ConfigurationError } from './errors.ts';

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];

const targets = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const;
export type TargetSessionAttributes = (typeof targets)[number];

export interface DatabaseUrl {
  /** Several hosts mean failover: the first that fits `target_session_attrs` is used. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string;
  readonly sslMode: SslMode | undefined;
  /** `target_session_attrs`: which of the hosts is meant. Default `any`, the first that answers. */
  readonly target: TargetSessionAttributes;
  /** The query parameters except these two. */
  readonly parameters: ReadonlyMap<string, string>;
}

const shape = 'postgresql://user:password@host:5432/database';

/** Replaces the password of a URL, and of any `password=` parameter, by asterisks. */
export function maskPassword(text: string): string {
  return text
    .replace(/^((?:[a-z]+:\/\/|(?![a-z]+:\/\/))[^:/?#@]*):.*@/i, '$1:****@')
    .replace(/\b((?:ssl)?password\s*=\s*)('[^']*'|[^\s&]+)/gi, '$1****');
}

/**
 * Parses by hand because the WHATWG `URL` refuses several hosts with ports, which libpq and
 * postgres.js accept, and reports nothing about what is wrong.
 * @param origin what holds the text, for errors: an environment variable or an option.
 * @throws ConfigurationError naming `origin`, what it holds (password masked) and what it should be.
 */
export function parseDatabaseUrl(text: string, origin: string): DatabaseUrl {
  const wrong = (what: string) =>
    new ConfigurationError(`${origin} is "${maskPassword(text)}", ${what}: write it as ${shape}.`);

  const match =
    /^postgres(?:ql)?:\/\/(?:(?<login>[^/?#]*)@)?(?<hosts>[^/?#]*)(?:\/(?<name>[^?#]*))?(?:\?(?<query>.*))?$/.exec(
      text.trim(),
    );
  if (!match?.groups) throw wrong('which is not a PostgreSQL URL');
  const { login, hosts = '', name = '', query = '' } = match.groups;

  const parameters = new Map(new URLSearchParams(query));
  const sslMode = parameters.get('sslmode');
  if (sslMode !== undefined && !isSslMode(sslMode)) {
    throw new ConfigurationError(
      `${origin} is "${maskPassword(text)}", whose sslmode "${sslMode}" does not exist: use one of ${sslModes.join(', ')}.`,
    );
  }
  parameters.delete('sslmode');
  const target = parameters.get('target_session_attrs') ?? 'any';
  if (!isTarget(target)) {
    throw new ConfigurationError(
      `${origin} is "${maskPassword(text)}", whose target_session_attrs "${target}" does not exist: use one of ${targets.join(', ')}.`,
    );
  }
  parameters.delete('target_session_attrs');
  const timeout = parameters.get('connect_timeout');
  if (timeout !== undefined && !/^\d{1,6}$/.test(timeout)) {
    throw wrong(`whose connect_timeout "${timeout}" is not a number of seconds`);
  }

  const decode = (part: string) => {
    try {
      return decodeURIComponent(part);
    } catch {
      throw wrong('which has a "%" that is not followed by two hexadecimal digits (write a real % as %25)');
    }
  };
  const database = decode(name);
  if (database === '' || database.includes('/')) throw wrong('which names no database after the host');
  const [user, ...password] = (login ?? '').split(':');

  return {
    hosts: hosts.split(',').map((part) => parseHost(part, wrong, decode)),
    user: user ? decode(user) : undefined,
    password: password.length > 0 ? decode(password.join(':')) : undefined,
    database,
    sslMode: sslMode as SslMode | undefined,
    target,
    parameters,
  };
}

function parseHost(part: string, wrong: (what: string) => Error, decode: (part: string) => string) {
  const match = /^(?<host>\[[0-9a-f:.]+\]|[^:[\]\s]*)(?::(?<port>.*))?$/i.exec(part);
  const host = match?.groups?.host;
  if (!host) throw wrong('which names no host');
  const port = match.groups?.port ?? '5432';
  if (!isPort(port)) throw wrong(`whose port "${port}" is not a number from 1 to 65535`);
  return { host: decode(host.replace(/^\[|\]$/g, '')), port: Number(port) };
}

const isSslMode = (text: string): text is SslMode => (sslModes as readonly string[]).includes(text);

const isTarget = (text: string): text is TargetSessionAttributes =>
  (targets as readonly string[]).includes(text);

export const isPort = (text: string): boolean =>
  /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;

/** Writes the parts of a URL, each encoded as it must be. */
export function formatDatabaseUrl(parts: {
  host: string;
  port: number;
  user: string;
  password?: string | undefined;
  database: string;
  sslMode?: string | undefined;
}): string {
  const login = [parts.user, ...(parts.password === undefined ? [] : [parts.password])]
    .map(encodeURIComponent)
    .join(':');
  // A socket folder such as /var/run/postgresql stands percent-encoded where the host does.
  const host = parts.host.includes(':') ? `[${parts.host}]` : encodeURIComponent(parts.host);
  const ssl = parts.sslMode ? `?sslmode=${parts.sslMode}` : '';
  return `postgresql://${login}@${host}:${parts.port}/${encodeURIComponent(parts.database)}${ssl}`;
}

/** The same server, another database: how the maintenance database `postgres` is reached. */
export function withDatabase(url: string, database: string): string {
  return url.trim().replace(/^([a-z]+:\/\/[^/?#]*)(?:\/[^?#]*)?/i, `$1/${encodeURIComponent(database)}`);
}
