// Which databases an environment has: those of the registry, and tracking databases of single applications.
import { type Environment, findUrl, processEnvironment } from './config.ts';
import {
  applicationOf,
  type DatabaseKey,
  type DatabaseTarget,
  databaseKeys,
  databases,
  definitionOf,
  isDatabaseKey,
  isDatabaseTarget,
  keyOf,
  possibleTargets,
  sourcesOf,
  targetOf,
} from './databases.ts';
import { parseDatabaseUrl } from './driver/database-url.ts';
import { ConfigurationError } from './errors.ts';

/**
 * The databases of an environment, in the order of the registry: its keys, and `tracking:<application>` for each
 * application with its own tracking database. If all applications have one, `tracking` is left out unless its URL
 * variable is set.
 * @throws ConfigurationError if a URL variable names an application that records no locations, or if two URLs lead to
 * the same database.
 */
export function databaseTargets(env: Environment = processEnvironment()): DatabaseTarget[] {
  return databaseKeys.flatMap((key) => {
    const { urlVariable } = definitionOf(key);
    refuseUnknownSource(key, env);
    const own = sourcesWithUrl(key, env);
    if (own.length === 0) return [key];
    const isShared = own.length < sourcesOf(key).length || Boolean(env[urlVariable]);
    const targets = [...(isShared ? [key] : []), ...own.map((source) => targetOf(key, source))];
    refuseSameDatabase(targets, env);
    return targets;
  });
}

/** Applications whose rows belong in another database of the same key. */
export function foreignSources(
  target: DatabaseTarget,
  env: Environment = processEnvironment(),
): readonly string[] {
  const own = applicationOf(target);
  if (own === undefined) return sourcesWithUrl(keyOf(target), env);
  return sourcesOf(keyOf(target)).filter((source) => source !== own);
}

const sourceVariable = (key: DatabaseKey, source: string): string =>
  definitionOf(targetOf(key, source)).urlVariable;

const sourcesWithUrl = (key: DatabaseKey, env: Environment): readonly string[] =>
  sourcesOf(key).filter((source) => env[sourceVariable(key, source)]);

// A misspelt variable would leave an application's locations in the shared database.
function refuseUnknownSource(key: DatabaseKey, env: Environment): void {
  const { urlVariable } = definitionOf(key);
  const known = sourcesOf(key).map((source) => sourceVariable(key, source));
  if (known.length === 0) return;
  const unknown = Object.keys(env).find(
    (name) => env[name] && name.endsWith(`_${urlVariable}`) && !known.includes(name),
  );
  if (unknown === undefined) return;
  throw new ConfigurationError(
    `${unknown} is set, and no application of that name records locations: use ${known.join(', ')}, ` +
      `and ${urlVariable} for those that share a database.`,
  );
}

// A database with two targets would be migrated, backed up and erased twice. Restoring one would replace the other.
function refuseSameDatabase(targets: readonly DatabaseTarget[], env: Environment): void {
  const seen = new Map<string, string>();
  for (const target of targets) {
    const found = findUrl(target, env);
    if (!found) continue;
    const { hosts, database } = parseDatabaseUrl(found.url, found.origin);
    const place = [...hosts.map(({ host, port }) => `${host}:${port}`).sort(), database].join();
    const other = seen.get(place);
    if (other !== undefined) {
      throw new ConfigurationError(
        `${found.origin} leads to the same database as ${other}: applications that share one use ` +
          `${databases[keyOf(target)].urlVariable} alone, without a variable of their own.`,
      );
    }
    seen.set(place, found.origin);
  }
}

/**
 * Converts names from a command line to databases of the environment, in registry order. No names means all,
 * `tracking` means all tracking databases, and `tracking:default` only the shared one.
 * @throws ConfigurationError for a name that matches no database.
 */
export function selectTargets(
  names: readonly string[],
  env: Environment = processEnvironment(),
): DatabaseTarget[] {
  const targets = databaseTargets(env);
  const isNamedBy = (target: DatabaseTarget, name: string) =>
    [target, keyOf(target), `${target}:default`].includes(name);
  const unknown = names.find((name) => !targets.some((target) => isNamedBy(target, name)));
  if (unknown !== undefined) {
    const why = isDatabaseTarget(unknown) ? `, because ${definitionOf(unknown).urlVariable} is not set` : '';
    throw new ConfigurationError(
      `There is no database "${unknown}"${why}: the databases are ${targets.join(', ')}.`,
    );
  }
  return names.length === 0
    ? targets
    : targets.filter((target) => names.some((name) => isNamedBy(target, name)));
}

/** Like `selectTargets`, for one name. @throws ConfigurationError if it matches no database, or several. */
export function selectTarget(name: string, env: Environment = processEnvironment()): DatabaseTarget {
  const [target, ...others] = selectTargets([name], env);
  if (target !== undefined && others.length === 0) return target;
  const choices = [target, ...others].map((one) => (one === name ? `${name}:default` : one));
  throw new ConfigurationError(`There are several databases "${name}": name one of ${choices.join(', ')}.`);
}

/**
 * Converts names from a command line to registry keys, in registry order. No names means all.
 * @throws ConfigurationError for a name that is not a key.
 */
export function selectDatabases(names: readonly string[]): DatabaseKey[] {
  const unknown = names.find((name) => !isDatabaseKey(name));
  if (unknown !== undefined) {
    throw new ConfigurationError(
      `There is no database "${unknown}": the databases are ${databaseKeys.join(', ')}.`,
    );
  }
  return names.length === 0 ? databaseKeys : databaseKeys.filter((key) => names.includes(key));
}

/** Environment variables for a child process, which make `urls` the only databases of their keys. */
export const urlSettings = (urls: readonly { key: DatabaseKey; url: string }[]): Record<string, string> =>
  Object.fromEntries(
    urls.flatMap(({ key, url }) =>
      possibleTargets
        .filter((target) => keyOf(target) === key)
        .map((target) => [definitionOf(target).urlVariable, target === key ? url : '']),
    ),
  );
