// The only file of src/ that reads process.env: it parses settings and returns typed values.
import { existsSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { delimiter, resolve } from 'node:path';
import * as v from 'valibot';
import {
  type DatabaseKey,
  type DatabaseTarget,
  databaseKeys,
  databases,
  definitionOf,
  isDatabaseKey,
  keyOf,
} from './databases.ts';
import {
  type DatabaseUrl,
  formatDatabaseUrl,
  impliedSslMode,
  impliedSslModes,
  isPort,
  maskPassword,
  parseDatabaseUrl,
  type SslMode,
} from './driver/database-url.ts';
import { isUsed, libpqVariables, refusalOf } from './driver/url-parameters.ts';
import { ConfigurationError } from './errors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export const processEnvironment = (): Environment => process.env;

export interface ResolvedUrl {
  readonly url: string;
  /** Where the URL comes from: the names of its variables, or the path of the cluster file. */
  readonly origin: string;
}

/** Content of .atriz/cluster.json, which `npm run dev` writes. */
const clusterFile = v.object({
  pid: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  servers: v.object({ plain: v.string(), timescaledb: v.string() }),
});

/** Path of the cluster file, relative to the working directory; also the `origin` of URLs from this file. */
export const clusterPath = '.atriz/cluster.json';

const serverVariables = ['PGHOST', 'PGPORT', 'PGUSER', 'PGPASSWORD'] as const;

/**
 * Finds the URL of one database. Uses the first of these that is set: its own variable; for `tracking:mextrack`, the
 * variable of `tracking`; for an application, `DATABASE_URL`; the PG* variables, with the registered name of the
 * database; the embedded cluster.
 * @throws ConfigurationError if none is set, if a setting is malformed, or if the URL names a database of another key
 * or of the server itself.
 */
export function databaseUrl(target: DatabaseTarget, env: Environment = process.env): ResolvedUrl {
  const found = findUrl(target, env);
  if (found) return refuseForeign(target, found);
  const { database, urlVariable } = definitionOf(target);
  throw new ConfigurationError(
    `No setting says where ${database} is: set ${urlVariable} to postgresql://user:password@host:5432/${database}, ` +
      'or set PGHOST, PGPORT, PGUSER and PGPASSWORD, or start the embedded cluster with "npm run dev".',
  );
}

/** Whether a setting says where the database is. @throws ConfigurationError if a setting is malformed. */
export const hasUrl = (target: DatabaseTarget): boolean => findUrl(target, process.env) !== undefined;

/**
 * Like `databaseUrl`, but accepts the database of another key, and returns undefined if no setting has a URL.
 * @throws ConfigurationError if a setting is malformed.
 */
export function findUrl(target: DatabaseTarget, env: Environment): ResolvedUrl | undefined {
  const key = keyOf(target);
  return (
    fromVariable(target, env) ??
    fromVariable(key, env) ??
    fromApplicationUrl(key, env) ??
    fromServerVariables(key, env) ??
    fromEmbedded(key)
  );
}

function fromVariable(target: DatabaseTarget, env: Environment): ResolvedUrl | undefined {
  const { urlVariable } = definitionOf(target);
  const url = env[urlVariable];
  if (!url) return undefined;
  parseDatabaseUrl(url, urlVariable);
  return { url, origin: urlVariable };
}

// DATABASE_URL belongs to the application that APP names; without APP, to the application whose database it names.
function fromApplicationUrl(key: DatabaseKey, env: Environment): ResolvedUrl | undefined {
  const url = env.DATABASE_URL;
  const { application, database } = definitionOf(key);
  if (!url || !application) return undefined;
  const named = parseDatabaseUrl(url, 'DATABASE_URL').database;
  const isOwn = env.APP ? applicationKey(env) === key : named === database;
  if (isOwn) return { url, origin: 'DATABASE_URL' };
  const others = databaseKeys.filter((other) => databases[other].application);
  if (!env.APP && !others.some((other) => databases[other].database === named)) {
    throw new ConfigurationError(
      `DATABASE_URL is "${maskPassword(url)}", whose database is that of no application: set APP to ${others.join(', ')}, ` +
        `or name one of ${others.map((other) => databases[other].database).join(', ')}.`,
    );
  }
  return undefined;
}

// A wrong name in a URL must not let a command migrate or empty a database of another key or of the server itself.
function refuseForeign(target: DatabaseTarget, found: ResolvedUrl): ResolvedUrl {
  const key = keyOf(target);
  const { database } = parseDatabaseUrl(found.url, found.origin);
  const owner = databaseKeys.find((other) => other !== key && databases[other].database === database);
  if (owner ?? ['postgres', 'template0', 'template1'].includes(database)) {
    const whose = owner ? `which is the database of ${owner}` : 'which is a database of the server itself';
    throw new ConfigurationError(
      `${found.origin} is "${maskPassword(found.url)}", ${whose}: for ${key} it should name ${definitionOf(key).database}.`,
    );
  }
  return found;
}

function fromServerVariables(key: DatabaseKey, env: Environment): ResolvedUrl | undefined {
  const set = serverVariables.filter((name) => env[name]);
  if (set.length === 0) return undefined;
  if (/[@\s]|:\/\//.test(env.PGHOST ?? '')) {
    throw new ConfigurationError(
      `PGHOST is "${maskPassword(env.PGHOST ?? '')}": it should be a host name alone, such as localhost.`,
    );
  }
  const port = env.PGPORT || '5432';
  if (!isPort(port)) {
    throw new ConfigurationError(`PGPORT is "${port}": it should be a number from 1 to 65535, such as 5432.`);
  }
  const url = formatDatabaseUrl({
    host: env.PGHOST || 'localhost',
    port: Number(port),
    user: env.PGUSER || operatingSystemUser(),
    password: env.PGPASSWORD || undefined,
    database: definitionOf(key).database,
    sslMode: env.PGSSLMODE || undefined,
  });
  const origin = set.join(', ');
  parseDatabaseUrl(url, origin);
  return { url, origin };
}

// The default user, as in libpq. A container may run under a user id that has no name.
function operatingSystemUser(): string {
  try {
    return userInfo().username;
  } catch {
    throw new ConfigurationError(
      'PGUSER is not set, and this process runs as a user without a name: set PGUSER.',
    );
  }
}

function fromEmbedded(key: DatabaseKey): ResolvedUrl | undefined {
  const file = resolve(clusterPath);
  if (!existsSync(file)) return undefined;
  const cluster = readCluster(file);
  if (!isAlive(cluster.pid)) return undefined;
  const { database, extensions } = definitionOf(key);
  const server = extensions.includes('timescaledb') ? cluster.servers.timescaledb : cluster.servers.plain;
  return { url: `${server}/${database}`, origin: clusterPath };
}

function readCluster(file: string): v.InferOutput<typeof clusterFile> {
  try {
    return v.parse(clusterFile, JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new ConfigurationError(
      `${file} does not say where the embedded cluster is (${reason}): delete it, and start the cluster with "npm run dev".`,
    );
  }
}

/** Whether drizzle-kit push may change this database without a migration. */
export const allowsPush = (key: DatabaseKey, env: Environment = process.env): boolean =>
  env.ATRIZ_ALLOW_PUSH?.split(',').includes(key) ?? false;

/** Whether a process with this id runs. EPERM means that it runs under another user. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The key of the application that `APP` names. @throws ConfigurationError if `APP` does not name an application. */
export function applicationKey(env: Environment = process.env): DatabaseKey {
  const applications = databaseKeys.filter((key) => databases[key].application);
  const app = env.APP ?? '';
  if (isDatabaseKey(app) && applications.includes(app)) return app;
  const holds = app === '' ? 'APP is not set' : `APP is "${app}"`;
  throw new ConfigurationError(
    `${holds}: it should be ${applications.join(', ')} (for example APP=${applications[0]} npx drizzle-kit generate --config drizzle.apps.config.ts).`,
  );
}

/**
 * Finds the application that a command runs for. `APP` names it or, if `APP` is not set, `DATABASE_URL` names its
 * database.
 * @throws ConfigurationError if the variable is wrong, or neither is set.
 */
export function ownDatabase(env: Environment = process.env): DatabaseKey {
  if (env.APP) return applicationKey(env);
  const named = env.DATABASE_URL && parseDatabaseUrl(env.DATABASE_URL, 'DATABASE_URL').database;
  const key = databaseKeys.find((one) => databases[one].application && databases[one].database === named);
  if (key) return key;
  throw new ConfigurationError(
    `Name a database: ${databaseKeys.join(', ')}. Only where APP or DATABASE_URL says whose folder it is, the name may be left out.`,
  );
}

/**
 * The prefix of all role names in the access matrix: `ATRIZ_ROLE_PREFIX`, or an empty text. With different prefixes,
 * several sets of databases can share a server.
 * @throws ConfigurationError if the role names would need quotes or be truncated by PostgreSQL.
 */
export function rolePrefix(env: Environment = process.env): string {
  const prefix = env.ATRIZ_ROLE_PREFIX ?? '';
  if (/^([a-z_][a-z0-9_]{0,39})?$/.test(prefix)) return prefix;
  throw new ConfigurationError(
    `ATRIZ_ROLE_PREFIX is "${prefix}": it should be up to 40 lower-case letters, digits and underscores, such as staging_.`,
  );
}

/** The variable that may hold the password of a role: `mextrack_app` → `MEXTRACK_APP_PASSWORD`. */
export const rolePasswordVariable = (role: string, env: Environment = process.env): string =>
  `${role.slice(rolePrefix(env).length).toUpperCase()}_PASSWORD`;

/** @throws ConfigurationError for blanks and characters beyond printable ASCII: clients encode them differently. */
export function rolePassword(role: string, env: Environment = process.env): string | undefined {
  const variable = rolePasswordVariable(role, env);
  const password = env[variable];
  if (!password) return undefined;
  if (/^[\x21-\x7e]+$/.test(password)) return password;
  throw new ConfigurationError(`${variable} should hold printable ASCII characters without blanks only.`);
}

export const isProduction = (env: Environment = process.env): boolean =>
  /^prod(uction)?$/i.test(env.NODE_ENV ?? '');

/** `PGAPPNAME`: the application_name of this process's connections. */
export const applicationName = (env: Environment = process.env): string | undefined =>
  env.PGAPPNAME || undefined;

/**
 * Adds the parameters that the URL lacks, from environment variables such as `PGSSLMODE`, as libpq does.
 * @throws ConfigurationError naming the variable whose value is refused.
 */
export function withLibpqVariables(url: DatabaseUrl, env: Environment = process.env): DatabaseUrl {
  const parameters = new Map(url.parameters);
  let { sslMode } = url;
  for (const [parameter, variable] of Object.entries(libpqVariables)) {
    const value = env[variable];
    if (!value) continue;
    const refusal = refusalOf(parameter, value);
    if (refusal) throw new ConfigurationError(`${variable} is "${value}": ${refusal}.`);
    if (parameter === 'sslmode') sslMode ??= value as SslMode;
    else if (isUsed(parameter) && !parameters.has(parameter)) parameters.set(parameter, value);
  }
  sslMode ??= impliedSslMode(url.parameters);
  // TLS files and versions in the URL imply TLS. Those from the environment do not: ignore them without an sslmode.
  if (sslMode === undefined) for (const name of impliedSslModes.keys()) parameters.delete(name);
  return { ...url, sslMode, parameters };
}

/**
 * Reads `PGBACKREST_STANZA`, as pgBackRest does: the name of the stanza that has the server's backups.
 * @throws ConfigurationError if the name would need quotes in a shell.
 */
export function stanzaName(env: Environment = process.env): string | undefined {
  const name = env.PGBACKREST_STANZA;
  if (!name) return undefined;
  if (/^\w[\w.-]*$/.test(name)) return name;
  throw new ConfigurationError(
    `PGBACKREST_STANZA is "${name}": it should be the name of one stanza, such as main.`,
  );
}

/**
 * Folders to search for PostgreSQL's client programs: `PG_BIN` if it is set, otherwise those of PATH. `only` means that
 * no other folder may be searched.
 */
export function programFolders(env: Environment = process.env): { folders: string[]; only: boolean } {
  if (env.PG_BIN) return { folders: [resolve(env.PG_BIN)], only: true };
  return { folders: (env.PATH ?? '').split(delimiter).filter((folder) => folder !== ''), only: false };
}

/** The environment of this process plus `variables`, for a child process. */
export const childEnvironment = (variables: Environment): NodeJS.ProcessEnv => ({
  ...process.env,
  ...variables,
});

/**
 * Hides PGTARGETSESSIONATTRS from postgres.js while `create` runs. postgres.js refuses "any", and reconnects forever if
 * the host does not match. driver/failover.ts chooses the host instead, and considers only the URL.
 */
export function withoutTargetVariable<Result>(create: () => Result): Result {
  const name = 'PGTARGETSESSIONATTRS';
  const target = process.env[name];
  delete process.env[name];
  try {
    return create();
  } finally {
    if (target !== undefined) process.env[name] = target;
  }
}

/** Makes the whole process format and parse dates in UTC. */
export function useUtc(): void {
  process.env.TZ = 'UTC';
}
