// Session settings that this package requires, because they change how values are read and written.

import { ConfigurationError } from '../errors.ts';
import { quoteIdentifier } from '../sql/identifiers.ts';

interface SessionSetting {
  readonly name: string;
  readonly value: string;
  /** Whether the given value equals `value` or has an equivalent effect. */
  readonly accepts: (value: string) => boolean;
}

const setting = (name: string, value: string, same?: RegExp): SessionSetting => ({
  name,
  value,
  accepts: (other) => other.toLowerCase() === value.toLowerCase() || (same?.test(other) ?? false),
});

const isUtc = /^(Etc\/)?(UTC|UCT|GMT|GMT[+-]?0|Universal|Zulu|Greenwich)$/i;

// PostgreSQL's defaults, except for UTC. Settings that an application may choose are not included: lc_monetary,
// default_text_search_config, search_path.
const settings: readonly SessionSetting[] = [
  setting('TimeZone', 'UTC', isUtc),
  setting('DateStyle', 'ISO, MDY', /^ISO\b/i),
  setting('standard_conforming_strings', 'on'),
  setting('IntervalStyle', 'postgres'),
  setting('bytea_output', 'hex'),
  setting('extra_float_digits', '1', /^[23]$/),
  setting('array_nulls', 'on'),
  setting('backslash_quote', 'safe_encoding', /^on$/i),
  setting('transform_null_equals', 'off'),
  setting('xmloption', 'content'),
  setting('xmlbinary', 'base64'),
  setting('quote_all_identifiers', 'off'),
];

/** Every version of PgBouncer tracks these settings for each client, and refuses the others at login. */
const keptByProxies: ReadonlySet<string> = new Set(['TimeZone', 'DateStyle', 'standard_conforming_strings']);

export const findSessionSetting = (name: string): SessionSetting | undefined =>
  settings.find((known) => known.name.toLowerCase() === name.toLowerCase());

/** Settings for the startup packet, which override those of the server, the database and the role. */
export const sessionSettings = (isProxied: boolean): Record<string, string> =>
  Object.fromEntries(
    settings
      .filter(({ name }) => !isProxied || keptByProxies.has(name))
      .map(({ name, value }) => [name, value]),
  );

// Like arrayTypesSql, this query must not depend on the search_path.
export const sessionSettingsSql = `SELECT session_user::pg_catalog.text AS role,
  pg_catalog.pg_backend_pid()::pg_catalog.text AS pid, ${settings
    .map(({ name }) => `pg_catalog.current_setting('${name}') AS "${name}"`)
    .join(', ')}`;

/**
 * Checks the settings of a session, because a proxy may not pass the startup packet's settings on to the server.
 * @param found The row of `sessionSettingsSql`.
 * @throws ConfigurationError with the statements that mend wrong settings.
 */
export function requireSessionSettings(found: Readonly<Record<string, string>>, database: string): void {
  const wrong = settings.filter(({ name, accepts }) => !accepts(found[name] ?? ''));
  if (wrong.length === 0) return;
  const role = `ALTER ROLE ${quoteIdentifier(found.role ?? '')} IN DATABASE ${quoteIdentifier(database)}`;
  const has = wrong.map(({ name }) => `${name} ${found[name]}`).join(', ');
  const mend = wrong
    .map(({ name, value }) => `${role} SET ${name} TO '${value.replace(', ', "', '")}'`)
    .join('; ');
  throw new ConfigurationError(
    `${database} gives its sessions ${has}, with which values would be read or written wrongly, and the proxy in ` +
      `front of it passes nothing else on: ${mend}; then RECONNECT in PgBouncer's console.`,
  );
}
