// Reads and masks PostgreSQL URLs, as libpq understands them.
import { ConfigurationError } from '../errors.ts';
import { isUsed, refusalOf } from './url-parameters.ts';

export type SslMode = 'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';

export type TargetSessionAttributes =
  | 'any'
  | 'read-write'
  | 'read-only'
  | 'primary'
  | 'standby'
  | 'prefer-standby';

export interface Host {
  readonly host: string;
  readonly port: number;
}

export interface DatabaseUrl {
  /** Several hosts mean failover: the first that fits `target_session_attrs` is used. */
  readonly hosts: readonly Host[];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string;
  readonly sslMode: SslMode | undefined;
  /** `target_session_attrs`: which kind of host to use. Default `any`: the first in the URL that answers. */
  readonly target: TargetSessionAttributes;
  /** The other parameters that have an effect (see url-parameters.ts). */
  readonly parameters: ReadonlyMap<string, string>;
}

const shape = 'postgresql://user:password@host:5432/database';

/**
 * Replaces the password of a URL, and the value of any parameter such as `password=`, with asterisks. Masks too much
 * rather than too little, because the text may be an invalid URL.
 */
export function maskPassword(text: string): string {
  const [, scheme = '', rest = ''] = /^\s*((?:[a-z][a-z0-9+.-]*:\/\/)?)([\s\S]*)$/i.exec(text) ?? [];
  return (scheme + maskLogin(rest)).replace(
    /\b(\w*(?:password|passwd|pass|pwd|secret|_key)\s*=\s*)('(?:[^'\\]|\\[\s\S])*'?|"[^"]*"?|(?:\\[\s\S]|[^\s&\\])+)/gi,
    '$1****',
  );
}

/** Masks from the first ":" to the last "@". Without "@", text in the place of the port may be a password. */
function maskLogin(text: string): string {
  const at = text.lastIndexOf('@');
  const colon = text.indexOf(':');
  if (at >= 0) return colon >= 0 && colon < at ? `${text.slice(0, colon)}:****${text.slice(at)}` : text;
  return text.replace(/^([^:[\]/?#,]*):(?!\d{1,5}([,/?#]|$))[^?]*/, '$1:****');
}

/**
 * Parses by hand because the WHATWG `URL` refuses several hosts with ports, which libpq and postgres.js accept, and
 * does not say what is wrong.
 * @param origin the environment variable or option that holds the text, for errors.
 * @throws ConfigurationError naming `origin`, its value (password masked) and the expected form.
 */
export function parseDatabaseUrl(text: string, origin: string): DatabaseUrl {
  const refused = (what: string) => new ConfigurationError(`${origin} is "${maskPassword(text)}", ${what}.`);
  const wrong = (what: string) => refused(`${what}: write it as ${shape}`);

  const match =
    /^postgres(?:ql)?:\/\/(?:(?<login>[^/?#]*)@)?(?<hosts>[^/?#]*)(?:\/(?<name>[^?#]*))?(?:\?(?<query>.*))?$/.exec(
      text.trim(),
    );
  if (!match?.groups) throw wrong('which is not a PostgreSQL URL');
  const { login, hosts = '', name = '', query = '' } = match.groups;

  const decode = (part: string) => {
    const decoded = decodeOrNothing(part);
    if (decoded !== undefined) return decoded;
    throw wrong(
      'which has a "%" that is not followed by two hexadecimal digits, or by 00 (write a real % as %25)',
    );
  };
  const given = new Map(
    query.split('&').flatMap((pair) => (pair === '' ? [] : [readParameter(pair, decode)])),
  );
  for (const [parameter, value] of given) {
    const refusal = refusalOf(parameter, value);
    if (refusal) throw refused(`whose ${refusal}`);
  }
  const parameters = new Map([...given].filter(([parameter]) => isUsed(parameter)));
  const take = (parameter: string) => {
    const value = parameters.get(parameter);
    parameters.delete(parameter);
    return value;
  };
  const target = (take('target_session_attrs') ?? 'any') as TargetSessionAttributes;
  const isTls = take('ssl') !== undefined;
  const sslMode = (take('sslmode') ?? (isTls ? 'require' : undefined)) as SslMode | undefined;
  if (isTls && isWeak(sslMode))
    throw refused(`whose ssl "true" and sslmode "${sslMode}" contradict each other`);

  const database = decode(name);
  if (database === '' || database.includes('/')) throw wrong('which names no database after the host');
  const [user, ...password] = (login ?? '').split(':');

  return {
    hosts: hosts.split(',').map((part) => parseHost(part, wrong, decode)),
    user: user ? decode(user) : undefined,
    password: password.length > 0 ? decode(password.join(':')) : undefined,
    database,
    sslMode,
    target,
    parameters,
  };
}

/** As in libpq, "+" is not a space. A zero byte is invalid, because it ends a value in the startup packet. */
function decodeOrNothing(part: string): string | undefined {
  try {
    const decoded = decodeURIComponent(part);
    return decoded.includes('\0') ? undefined : decoded;
  } catch {
    return undefined;
  }
}

function readParameter(pair: string, decode: (part: string) => string): [string, string] {
  const [name = '', ...value] = pair.split('=');
  return [decode(name), decode(value.join('='))];
}

/** Whether the mode allows an unencrypted connection. */
export const isWeak = (mode: SslMode | undefined): boolean =>
  mode === undefined || ['disable', 'allow', 'prefer'].includes(mode);

/** The sslmode that these parameters imply if none is given, because they make sense only with TLS. */
export const impliedSslModes: ReadonlyMap<string, SslMode> = new Map([
  ['sslrootcert', 'verify-full'],
  ['sslcrl', 'verify-full'],
  ['sslcert', 'require'],
  ['ssl_min_protocol_version', 'require'],
]);

export const impliedSslMode = (parameters: ReadonlyMap<string, string>): SslMode | undefined =>
  [...impliedSslModes].find(([name]) => parameters.has(name))?.[1];

function parseHost(part: string, wrong: (what: string) => Error, decode: (part: string) => string) {
  const match = /^(?<host>\[[0-9a-f:.]+\]|[^:[\]\s]*)(?::(?<port>.*))?$/i.exec(part);
  const host = match?.groups?.host;
  if (!host) throw wrong('which names no host');
  const port = match.groups?.port ?? '5432';
  // Do not show the port: if the host is missing, it may be the password.
  if (!isPort(port)) throw wrong('whose port is not a number from 1 to 65535');
  return { host: decode(host.replace(/^\[|\]$/g, '')), port: Number(port) };
}

export const isPort = (text: string): boolean =>
  /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;

/** Builds a URL and encodes each part. */
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
  // A socket folder such as /var/run/postgresql is percent-encoded in the place of the host.
  const host = parts.host.includes(':') ? `[${parts.host}]` : encodeURIComponent(parts.host);
  const ssl = parts.sslMode ? `?sslmode=${parts.sslMode}` : '';
  return `postgresql://${login}@${host}:${parts.port}/${encodeURIComponent(parts.database)}${ssl}`;
}

/** Returns the URL of another database on the same server, such as the maintenance database `postgres`. */
export function withDatabase(url: string, database: string): string {
  return url.trim().replace(/^([a-z]+:\/\/[^/?#]*)(?:\/[^?#]*)?/i, `$1/${encodeURIComponent(database)}`);
}
