// Prints which servers a command uses, and asks before it destroys data.
import type { Command } from 'commander';
import { databaseUrl, ownDatabase } from '../../src/config.ts';
import type { DatabaseTarget } from '../../src/databases.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { selectTargets } from '../../src/targets.ts';
import { sourceOf } from './environment-file.ts';
import { ask, confirmDestruction } from './output.ts';

/**
 * Makes `command` and its subcommands first print which servers they use and where these are configured. The
 * options --json, --offline and --dry-run turn this off.
 * @param names the databases of a command that takes none as arguments. Default: all.
 */
export function saysWhere(command: Command, names: readonly string[] = []): Command {
  return command.hook('preAction', (_, action) => {
    const { json, offline, dryRun } = action.opts<{ json?: boolean; offline?: boolean; dryRun?: boolean }>();
    if (json || offline || dryRun) return;
    const { text } = describeServers(keysOf(action) ?? selectTargets(names));
    if (text) console.log(`${text}\n`);
  });
}

function keysOf(action: Command): DatabaseTarget[] | undefined {
  const index = action.registeredArguments.findIndex((argument) => argument.name() === 'database');
  if (index === -1) return undefined;
  const named: unknown = action.processedArgs[index];
  const isOne = action.registeredArguments[index]?.variadic === false;
  if (named === undefined && isOne) return [ownDatabase()];
  return selectTargets([named ?? []].flat().map(String));
}

/** Describes servers. `text` is e.g. `Server localhost:5432, from .env.`, or empty if no URL is configured. */
export function describeServers(keys: readonly DatabaseTarget[]): { text: string; addresses: string[] } {
  const found = keys.flatMap((key) => {
    try {
      const { url, origin } = databaseUrl(key);
      return [{ key, address: addressOf(url, origin), source: sourceOf(origin) }];
    } catch (error) {
      if (error instanceof ConfigurationError) return [];
      throw error;
    }
  });
  const addresses = [...new Set(found.map(({ address }) => address))];
  if (addresses.length === 0) return { text: '', addresses };
  const sources = [...new Set(found.map(({ source }) => source))].join(' and ');
  if (addresses.length === 1) return { text: `Server ${addresses[0]}, from ${sources}.`, addresses };
  const servers = addresses.map((address) => {
    const names = found.filter((entry) => entry.address === address).map(({ key }) => key);
    return `${names.join(', ')} on ${address}`;
  });
  return { text: `Servers: ${servers.join('; ')}, from ${sources}.`, addresses };
}

function addressOf(url: string, origin: string): string {
  const { hosts } = parseDatabaseUrl(url, origin);
  return hosts.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`).join(',');
}

/**
 * Asks before databases lose data. For a server on another machine, a "y" is not enough: a person must type
 * the names of the databases, and a script must name the host.
 * @param loss e.g. `will be dropped with all rows`.
 * @throws ConfigurationError without consent, or if `host` names a server that is not used.
 */
export async function confirmLoss(
  keys: readonly DatabaseTarget[],
  loss: string,
  { yes, host }: { yes?: boolean; host?: string },
): Promise<void> {
  const targets = keys.map((key) => {
    const { url, origin } = databaseUrl(key);
    const { database, hosts } = parseDatabaseUrl(url, origin);
    return { database, address: addressOf(url, origin), hosts: hosts.map((entry) => entry.host) };
  });
  const names = targets.map(({ database }) => database);
  const addresses = [...new Set(targets.map(({ address }) => address))].join(' and ');
  const what = `${names.join(', ')} on ${addresses} ${loss}.`;
  const hosts = [...new Set(targets.flatMap((target) => target.hosts))];
  const named = host?.split(',');
  const other = named?.find((name) => !hosts.includes(name));
  if (other !== undefined) {
    throw new ConfigurationError(`--host names ${other}, but ${what} Nothing was done.`);
  }
  const remote = hosts.filter((name) => !isLoopback(name));
  if (remote.length === 0) return confirmDestruction(what, yes);
  if (yes && remote.every((name) => named?.includes(name))) return;
  if (yes || !process.stdin.isTTY) {
    throw new ConfigurationError(
      `${what} That is not this machine, so nothing was done: add --yes --host ${remote.join(',')} to go on.`,
    );
  }
  const answer = await ask(`${what} That is not this machine: type ${names.join(' ')} to go on. `);
  if (answer.split(/[\s,]+/).join() !== names.join()) throw new ConfigurationError('Nothing was done.');
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host) || host.startsWith('/');
