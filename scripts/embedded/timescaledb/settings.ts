// A session's settings on a backend that several sessions share: what to set when the session gets the backend.
import { quoteIdentifier, quoteLiteral } from './messages.ts';

// PGlite starts its backend with initdb's command line; these are a server's values. RESET goes back to them.
const serverDefaults: Record<string, string> = {
  allow_system_table_mods: 'off',
  client_min_messages: 'notice',
  datestyle: 'ISO, MDY',
  enable_seqscan: 'on',
  search_path: '"$user", public',
  timezone: 'UTC',
};

/** Settings that a server reports to its clients, under the names that the protocol gives them. */
export const reported: Record<string, string> = {
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
  /** The role that the client logged in as, or took by SET SESSION AUTHORIZATION. */
  user: string;
  readonly #login: string;
  #role = 'none';
  /** What RESET goes back to: the server's, the role's and the startup packet's settings. */
  #defaults: Map<string, string>;
  #current: Map<string, string>;
  /** app.tenant and the like: not listed in pg_settings, so their names are gathered as they are seen. */
  readonly #customNames = new Set<string>();

  constructor(user: string, startup: Record<string, string>) {
    this.user = user;
    this.#login = user;
    this.#defaults = new Map(Object.entries(serverDefaults));
    this.#current = new Map();
    this.#overlay(startup);
    this.#current = new Map(this.#defaults);
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

  /** ALTER ROLE … SET and ALTER DATABASE … SET rank below what the client asked for at its start. */
  addRoleDefaults(role: Record<string, string>, startup: Record<string, string>): void {
    this.#overlay(role);
    this.#overlay(startup);
    this.#current = new Map(this.#defaults);
  }

  noticeCustomNames(names: Iterable<string>): void {
    for (const name of names) this.#customNames.add(name.toLowerCase());
  }

  /** Two sessions with equal fingerprints need no settings applied between them. */
  get fingerprint(): string {
    const entries = [...this.#current].sort(([left], [right]) => (left < right ? -1 : 1));
    return JSON.stringify([this.user, this.#role, entries]);
  }

  /** Makes the backend this session's: everything before it is forgotten. */
  applySql(): string {
    const rows = [...this.#current].map(([name, value]) => `(${quoteLiteral(name)}, ${quoteLiteral(value)})`);
    return [
      'SET SESSION AUTHORIZATION postgres',
      'RESET ROLE',
      'RESET ALL',
      `SELECT pg_catalog.set_config(name, value, false) FROM (VALUES ${rows.join(', ')}) AS s (name, value)`,
      ...(this.user === 'postgres' ? [] : [`SET SESSION AUTHORIZATION ${quoteIdentifier(this.user)}`]),
      ...(this.#role === 'none' ? [] : [`SET ROLE ${quoteIdentifier(this.#role)}`]),
    ].join('; ');
  }

  /** The role whose rights count, as far as it was set outside of a transaction. */
  get effectiveRole(): string {
    return this.#role === 'none' ? this.user : this.#role;
  }

  /** The SQL run by the superuser amid this session's own, without touching its other settings. */
  bySuperuser(sql: string): string {
    if (this.effectiveRole === 'postgres') return sql;
    const back = [`SET SESSION AUTHORIZATION ${quoteIdentifier(this.user)}`];
    if (this.#role !== 'none') back.push(`SET ROLE ${quoteIdentifier(this.#role)}`);
    return ['SET SESSION AUTHORIZATION postgres', sql, ...back].join('; ');
  }

  /** Without a postmaster RESET SESSION AUTHORIZATION does nothing: the login role is named instead. */
  nameLogin(sql: string): string {
    if (!/session\s+authorization/i.test(sql)) return sql;
    const login = `SET SESSION AUTHORIZATION ${quoteIdentifier(this.#login)}`;
    return sql.replaceAll(
      /\b(?:reset|set)\s+session\s+authorization(?!\s+(?!default\b)\S)(?:\s+default\b)?/gi,
      login,
    );
  }

  /** DISCARD ALL: as at the login. */
  backToLogin(): void {
    this.user = this.#login;
    this.#role = 'none';
  }

  /** Rows of (name, value) that say what the backend now has for this session. */
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

  /** Takes the rows in; returns the reported settings that changed, by their protocol names. */
  readBack(rows: (string | null)[][]): Map<string, string> {
    const before = new Map(Object.keys(reported).map((name) => [name, this.get(name)]));
    const found = new Map(rows.map(([name, value]) => [name ?? '', value ?? '']));
    this.#role = found.get(' role') ?? 'none';
    this.user = found.get(' user') ?? this.user;
    found.delete(' role');
    found.delete(' user');
    this.#current = new Map([...this.#defaults, ...found]);
    const changed = new Map<string, string>();
    for (const [name, value] of before) {
      if (this.get(name) !== value) changed.set(reported[name] ?? name, this.get(name));
    }
    return changed;
  }

  #overlay(settings: Record<string, string>): void {
    for (const [name, value] of Object.entries(settings)) {
      this.#defaults.set(name.toLowerCase(), value);
      if (name.includes('.')) this.#customNames.add(name.toLowerCase());
    }
  }
}

/** The startup packet's `options`: -c name=value, -cname=value, --name=value; backslash escapes a blank. */
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

/** A setting of PostgreSQL, in milliseconds where it names no unit; 0 for anything else. */
function parseDuration(value: string): number {
  const match = /^\s*([\d.]+)\s*(us|ms|s|min|h|d)?\s*$/.exec(value);
  return match ? Number(match[1]) * (units[match[2] ?? 'ms'] ?? 1) : 0;
}
