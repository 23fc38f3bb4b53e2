// The settings of one session. They are applied to the shared backend before the session's messages run.
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import { quoteLiteral } from './messages.ts';

// PGlite starts its backend with the settings of initdb. A real server has these values instead; RESET restores them.
const serverDefaults: Record<string, string> = {
  allow_system_table_mods: 'off',
  client_min_messages: 'notice',
  datestyle: 'ISO, MDY',
  enable_seqscan: 'on',
  search_path: '"$user", public',
  timezone: 'UTC',
};

/** Settings that the server reports by ParameterStatus, with their names in the protocol. */
export const reportedSettings: Record<string, string> = {
  application_name: 'application_name',
  client_encoding: 'client_encoding',
  datestyle: 'DateStyle',
  intervalstyle: 'IntervalStyle',
  standard_conforming_strings: 'standard_conforming_strings',
  timezone: 'TimeZone',
};

const reportedDefaults: Record<string, string> = {
  application_name: '',
  client_encoding: 'UTF8',
  intervalstyle: 'postgres',
  standard_conforming_strings: 'on',
};

export class SessionSettings {
  /** The role of the login, or of SET SESSION AUTHORIZATION. */
  sessionUser: string;
  readonly #authenticatedUser: string;
  readonly #startup: Record<string, string>;
  #role = 'none';
  /** The values that RESET restores: those of the server, the role and the startup packet. */
  readonly #defaults = new Map(Object.entries(serverDefaults));
  #current = new Map<string, string>();
  /** Names of custom settings such as app.tenant. They come from the SQL, because pg_settings does not list them. */
  readonly #customNames = new Set<string>();

  constructor(user: string, startup: Record<string, string>) {
    this.sessionUser = user;
    this.#authenticatedUser = user;
    this.#startup = startup;
    this.addRoleDefaults({});
  }

  get(name: string): string {
    return this.#current.get(name) ?? reportedDefaults[name] ?? '';
  }

  /** Milliseconds, 0 for none. */
  get statementTimeout(): number {
    return parseDuration(this.get('statement_timeout'));
  }

  /** Milliseconds, 0 for none. */
  get lockTimeout(): number {
    return parseDuration(this.get('lock_timeout'));
  }

  /** Adds the values of ALTER ROLE … SET and ALTER DATABASE … SET. The startup packet overrides them. */
  addRoleDefaults(role: Record<string, string>): void {
    this.#addDefaults(role);
    this.#addDefaults(this.#startup);
    this.#current = new Map(this.#defaults);
  }

  addCustomNames(names: Iterable<string>): void {
    for (const name of names) this.#customNames.add(name.toLowerCase());
  }

  /** Sessions with equal fingerprints can use the backend one after the other without applying settings. */
  get fingerprint(): string {
    const entries = [...this.#current].sort(([left], [right]) => (left < right ? -1 : 1));
    return JSON.stringify([this.sessionUser, this.#role, entries]);
  }

  /** Returns SQL that resets the backend and applies all settings of this session. */
  applySql(): string {
    const rows = [...this.#current].map(([name, value]) => `(${quoteLiteral(name)}, ${quoteLiteral(value)})`);
    return [
      'SET SESSION AUTHORIZATION postgres',
      'RESET ROLE',
      'RESET ALL',
      `SELECT pg_catalog.set_config(name, value, false) FROM (VALUES ${rows.join(', ')}) AS s (name, value)`,
      ...this.#setRoles(),
    ].join('; ');
  }

  /** current_user at the end of the last transaction. */
  get currentUser(): string {
    return this.#role === 'none' ? this.sessionUser : this.#role;
  }

  /** Returns SQL that runs `sql` as superuser and restores the session's role. Other settings do not change. */
  asSuperuser(sql: string): string {
    if (this.currentUser === 'postgres') return sql;
    return ['SET SESSION AUTHORIZATION postgres', sql, ...this.#setRoles()].join('; ');
  }

  #setRoles(): string[] {
    const setUser = `SET SESSION AUTHORIZATION ${quoteIdentifier(this.sessionUser)}`;
    return this.#role === 'none' ? [setUser] : [setUser, `SET ROLE ${quoteIdentifier(this.#role)}`];
  }

  /** Replaces RESET SESSION AUTHORIZATION, which has no effect in PGlite, by SET with the login role. */
  rewriteResetAuthorization(sql: string): string {
    if (!/session\s+authorization/i.test(sql)) return sql;
    const login = `SET SESSION AUTHORIZATION ${quoteIdentifier(this.#authenticatedUser)}`;
    return sql.replaceAll(
      /\b(?:reset|set)\s+session\s+authorization(?!\s+(?!default\b)\S)(?:\s+default\b)?/gi,
      login,
    );
  }

  /** After DISCARD ALL: restores the role of the login. */
  resetAuthorization(): void {
    this.sessionUser = this.#authenticatedUser;
    this.#role = 'none';
  }

  /** Returns a query for the settings that the backend has for this session, as rows of (name, value). */
  readBackSql(): string {
    const custom = [...this.#customNames].map(quoteLiteral).join(', ');
    return `SELECT pg_catalog.lower(name), setting FROM pg_catalog.pg_settings
      WHERE source = 'session' AND name NOT LIKE 'transaction\\_%'
      UNION ALL SELECT ' role', pg_catalog.current_setting('role')
      UNION ALL SELECT ' user', session_user::text
      UNION ALL SELECT name, pg_catalog.current_setting(name, true)
        FROM pg_catalog.unnest(ARRAY[${custom}]::text[]) AS custom (name)
        WHERE pg_catalog.current_setting(name, true) <> ''`;
  }

  /** Stores the rows of `readBackSql`. Returns the reported settings that changed, by protocol name. */
  readBack(rows: (string | null)[][]): Map<string, string> {
    const before = new Map(Object.keys(reportedSettings).map((name) => [name, this.get(name)]));
    const found = new Map(rows.map(([name, value]) => [name ?? '', value ?? '']));
    this.#role = found.get(' role') ?? 'none';
    this.sessionUser = found.get(' user') ?? this.sessionUser;
    found.delete(' role');
    found.delete(' user');
    this.#current = new Map([...this.#defaults, ...found]);
    const changed = new Map<string, string>();
    for (const [name, value] of before) {
      if (this.get(name) !== value) changed.set(reportedSettings[name] ?? name, this.get(name));
    }
    return changed;
  }

  #addDefaults(settings: Record<string, string>): void {
    for (const [name, value] of Object.entries(settings)) {
      this.#defaults.set(name.toLowerCase(), value);
      if (name.includes('.')) this.#customNames.add(name.toLowerCase());
    }
  }
}

/** Parses the startup packet's `options`: -c name=value, -cname=value, --name=value. A backslash escapes a space. */
export function parseOptions(options: string): Record<string, string> {
  const words =
    options.match(/(?:\\[\s\S]|[^\s\\])+/g)?.map((word) => word.replaceAll(/\\([\s\S])/g, '$1')) ?? [];
  const settings: Record<string, string> = {};
  for (let index = 0; index < words.length; index++) {
    let word = words[index] ?? '';
    if (word === '-c') word = words[++index] ?? '';
    else word = word.replace(/^(?:-c|--)/, '');
    const equals = word.indexOf('=');
    if (equals > 0) settings[word.slice(0, equals).replaceAll('-', '_')] = word.slice(equals + 1);
  }
  return settings;
}

const units: Record<string, number> = {
  us: 0.001,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Converts a duration to milliseconds. A number without a unit is in milliseconds. Returns 0 for an invalid value. */
function parseDuration(value: string): number {
  const match = /^\s*([\d.]+)\s*(us|ms|s|min|h|d)?\s*$/.exec(value);
  return match ? Number(match[1]) * (units[match[2] ?? 'ms'] ?? 1) : 0;
}
