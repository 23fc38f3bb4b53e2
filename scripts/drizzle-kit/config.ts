// The configuration of drizzle-kit for each database, from the registry.

import { isIP } from 'node:net';
import { type Config, defineConfig } from 'drizzle-kit';
import { allowsPush, databaseUrl, withLibpqVariables } from '../../src/config.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { isServerSetting } from '../../src/driver/url-parameters.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { loadEnvironmentFile } from '../cli/environment-file.ts';

// drizzle-kit also reads the configuration for these commands, which must work without a server.
const offlineCommands = ['generate', 'check', 'up', 'export', 'drop'];

export function kitConfig(key: DatabaseKey): Config {
  loadEnvironmentFile();
  if (process.argv.includes('push')) orExit(() => refusePush(key));
  const files = { dialect: 'postgresql', schema: `./schema/${key}.ts`, out: `./drizzle/${key}` } as const;
  const offline = offlineCommands.some((command) => process.argv.includes(command));
  if (offline) return defineConfig(files);
  return defineConfig({
    ...files,
    dbCredentials: { url: orExit(() => kitUrl(key)) },
    strict: true,
    verbose: true,
  });
}

/** URL parameters for this package only; drizzle-kit works without them. */
const dispensable = [
  'application_name',
  'fallback_application_name',
  'connect_timeout',
  'pgbouncer',
  'sslsni',
];

/**
 * Returns the URL for drizzle-kit, without the `dispensable` parameters, which its driver would pass to the server.
 * @throws ConfigurationError if drizzle-kit's driver would ignore a part of the URL.
 */
export function kitUrl(key: DatabaseKey): string {
  const { url, origin } = databaseUrl(key);
  const { hosts, sslMode, target, parameters } = withLibpqVariables(parseDatabaseUrl(url, origin));
  const rest = [...parameters].filter(([name, value]) => !dispensable.includes(name) && value !== 'system');
  const lost = rest.filter(([name]) => !isServerSetting(name)).map(([name]) => name);
  // drizzle-kit checks a certificate against "localhost" if the host is an IP address.
  if (sslMode === 'verify-full' && hosts.some(({ host }) => isIP(host) > 0))
    lost.push('an IP address with sslmode=verify-full');
  if (lost.length > 0) {
    throw new ConfigurationError(
      `drizzle-kit connects by itself, and would not keep ${lost.join(', ')} of ${origin} or the PG* variables: ` +
        'use "npm run migrate", or give drizzle-kit a URL without.',
    );
  }
  const kept = [
    ...(sslMode ? [['sslmode', sslMode]] : []),
    ...(target === 'any' ? [] : [['target_session_attrs', target]]),
    ...rest,
  ].map(([name, value = '']) => `${name}=${encodeURIComponent(value)}`);
  const [place] = url.trim().split('?');
  return kept.length === 0 ? `${place}` : `${place}?${kept.join('&')}`;
}

/** @throws ConfigurationError unless ATRIZ_ALLOW_PUSH names the database. */
function refusePush(key: DatabaseKey): void {
  if (allowsPush(key)) return;
  throw new ConfigurationError(
    `drizzle-kit push would change ${key} behind its migrations, and nothing was done: "npm run db:generate -- ${key} --name ` +
      `<name>" writes the change down, "npm run db:migrate:${key}" applies it. For a database that is thrown away: ATRIZ_ALLOW_PUSH=${key}.`,
  );
}

/** On a ConfigurationError, prints only its message and exits, because drizzle-kit would print a stack trace. */
export function orExit<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    console.error(error.message);
    process.exit(error.exitCode);
  }
}
