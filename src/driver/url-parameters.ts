// URL parameters: which are honoured, which are ignored as harmless, and which are refused and why.
// A parameter that would make a connection safer, or would change its destination, is never ignored.
import { findSessionSetting } from './session-settings.ts';

interface Rule {
  readonly isHonoured: boolean;
  /** Pattern of the accepted values; others are refused. Default: every value is accepted. */
  readonly accepts?: RegExp;
  /** Why a value is refused: the rest of a sentence that starts with the name of the parameter. */
  readonly refusal?: string;
}

const honoured = (accepts?: RegExp, refusal?: string): Rule => ({
  isHonoured: true,
  ...(accepts && { accepts }),
  ...(refusal && { refusal }),
});
const ignored = (accepts?: RegExp, refusal?: string): Rule => ({
  ...honoured(accepts, refusal),
  isHonoured: false,
});
const nothing = /(?!)/;
const refused = (refusal: string): Rule => ignored(nothing, refusal);

const allWith = (rule: Rule, ...names: string[]) => Object.fromEntries(names.map((name) => [name, rule]));

const ownPlace = refused(
  'would win over what the URL shows: write it in its own place, as in postgresql://user:password@host:5432/database ' +
    '(a socket folder as %2Fvar%2Frun%2Fpostgresql in place of the host)',
);
const tlsVersions = /^(TLSv1(\.[123])?)?$/;
const method = '(password|md5|gss|sspi|scram-sha-256|oauth|none)';
const authenticationMethods = new RegExp(`^(${method}(,${method})*|!${method}(,!${method})*)$`);

const rules: Readonly<Record<string, Rule>> = {
  ...allWith(honoured(), 'application_name', 'fallback_application_name', 'options'),
  ...allWith(honoured(), 'sslrootcert', 'sslcert', 'sslkey', 'sslpassword', 'sslcrl'),
  sslmode: honoured(
    /^(disable|allow|prefer|require|verify-ca|verify-full)$/,
    'does not exist: use disable, allow, prefer, require, verify-ca or verify-full',
  ),
  ssl: honoured(/^true$/, 'can only be true, as for libpq: use sslmode'),
  sslnegotiation: honoured(/^(postgres|direct)$/, 'can be postgres or direct'),
  sslsni: honoured(/^[01]$/, 'can be 0 or 1'),
  sslcertmode: honoured(
    /^(disable|allow)$/,
    'can be disable or allow: this driver does not see whether the server asked',
  ),
  ...allWith(
    honoured(tlsVersions, 'can be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3'),
    'ssl_min_protocol_version',
    'ssl_max_protocol_version',
  ),
  require_auth: honoured(
    authenticationMethods,
    'can name password, md5, gss, sspi, scram-sha-256, oauth and none, with commas, or each with a ! before it',
  ),
  target_session_attrs: honoured(
    /^(any|read-write|read-only|primary|standby|prefer-standby)$/,
    'does not exist: use any, read-write, read-only, primary, standby or prefer-standby',
  ),
  connect_timeout: honoured(/^\d{1,6}$/, 'is not a number of seconds'),
  pgbouncer: honoured(/^(true|1|false|0)$/, 'can be true or false'),

  ...allWith(ownPlace, 'host', 'hostname', 'port', 'user', 'username', 'password', 'dbname', 'database'),
  hostaddr: refused('would lead elsewhere than the host that the URL shows: write the address as the host'),
  ...allWith(refused('is read by libpq only: write the whole URL'), 'service', 'servicefile'),
  passfile: refused('is read by libpq only: write the password into the URL, or into PGPASSWORD'),
  replication: ignored(/^(false|off|no|0)$/, 'makes a connection that runs no queries: leave it out'),
  channel_binding: ignored(
    /^(disable|prefer)$/,
    'is not possible with this driver, which logs in without channel binding: use sslmode=verify-full, which proves the server too',
  ),
  gssencmode: ignored(/^(disable|prefer)$/, 'is not possible with this driver: use sslmode=verify-full'),
  requirepeer: refused('is not possible with this driver: use TCP with sslmode=verify-full'),
  sslcrldir: refused('is not possible with this driver: put the lists into one file, sslcrl'),
  requiressl: refused('is out of date: use sslmode'),
  min_protocol_version: ignored(/^3\.0$/, 'is not possible with this driver, which speaks version 3.0'),
  ...allWith(
    refused('is not possible with this driver, which logs in with a password or a certificate'),
    ...[
      'scram_client_key',
      'scram_server_key',
      'oauth_issuer',
      'oauth_client_id',
      'oauth_client_secret',
      'oauth_scope',
    ],
  ),
  client_encoding: ignored(/^(utf-?8|unicode|auto)$/i, 'can be UTF8 only'),
  // Parameters of Prisma.
  schema: ignored(/^public$/, "is Prisma's: use options=-c%20search_path%3D…"),
  sslaccept: ignored(/^accept_invalid_certs$/, "is Prisma's: use sslmode=verify-full"),
  sslidentity: refused("is Prisma's: use sslcert and sslkey"),

  // Tuning parameters of libpq and other clients: ignoring them does not reduce security.
  ...allWith(ignored(), 'keepalives', 'keepalives_idle', 'keepalives_interval', 'keepalives_count'),
  ...allWith(ignored(), 'tcp_user_timeout', 'load_balance_hosts', 'sslcompression', 'sslkeylogfile'),
  ...allWith(ignored(), 'krbsrvname', 'gsslib', 'gssdelegation', 'max_protocol_version'),
  ...allWith(ignored(), 'connection_limit', 'pool_timeout', 'socket_timeout', 'statement_cache_size'),
  ...allWith(
    ignored(),
    'prepared_statement_cache_size',
    'statement_cache_capacity',
    'uselibpqcompat',
    'supa',
  ),
  ...allWith(ignored(), 'prepare', 'max', 'idle_timeout', 'max_lifetime', 'pool_max_conns', 'pool_min_conns'),
};

/** libpq's environment variables for parameters that the URL omits. Those that say where to connect are left out. */
export const libpqVariables = {
  channel_binding: 'PGCHANNELBINDING',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  gssencmode: 'PGGSSENCMODE',
  require_auth: 'PGREQUIREAUTH',
  requirepeer: 'PGREQUIREPEER',
  ssl_max_protocol_version: 'PGSSLMAXPROTOCOLVERSION',
  ssl_min_protocol_version: 'PGSSLMINPROTOCOLVERSION',
  sslcert: 'PGSSLCERT',
  sslcertmode: 'PGSSLCERTMODE',
  sslcrl: 'PGSSLCRL',
  sslcrldir: 'PGSSLCRLDIR',
  sslkey: 'PGSSLKEY',
  sslmode: 'PGSSLMODE',
  sslnegotiation: 'PGSSLNEGOTIATION',
  sslrootcert: 'PGSSLROOTCERT',
  sslsni: 'PGSSLSNI',
} as const;

/** Why a parameter is refused, as a clause without a full stop; undefined if it is accepted. */
export function refusalOf(name: string, value: string): string | undefined {
  const fixed = findSessionSetting(name);
  if (fixed && !fixed.accepts(value)) {
    return `${name} is refused: sessions of this package always have ${fixed.name} ${fixed.value}`;
  }
  const rule = ruleOf(name.toLowerCase());
  // Do not show the name: it may be part of a password that contains "?".
  if (!rule)
    return /^[a-z_][\w$]*(\.[a-z_][\w$]*)*$/i.test(name) ? undefined : 'parameters hold a wrong name';
  if (name !== name.toLowerCase()) return `${name} has to be in lower case`;
  if (!rule.accepts || rule.accepts.test(value)) return undefined;
  return `${name} ${rule.accepts === nothing ? '' : `"${value}" `}${rule.refusal}`;
}

/** Whether a parameter has an effect: it is honoured, or is a server setting that this package does not prescribe. */
export const isUsed = (name: string): boolean => ruleOf(name)?.isHonoured ?? !findSessionSetting(name);

/** An unlisted parameter counts as a server setting, such as `work_mem`: the server itself rejects unknown ones. */
export const isServerSetting = (name: string): boolean => name === 'options' || ruleOf(name) === undefined;

const ruleOf = (name: string): Rule | undefined => (Object.hasOwn(rules, name) ? rules[name] : undefined);
