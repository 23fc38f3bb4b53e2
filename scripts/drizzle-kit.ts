// What drizzle-kit needs to know about each database, taken from the registry.
import { type Config, defineConfig } from 'drizzle-kit';
import { databaseUrl, loadEnvironmentFile } from '../src/config.ts';
import type { DatabaseKey } from '../src/databases.ts';
import { ConfigurationError } from '../src/errors.ts';

// drizzle-kit reads the configuration for these too, which must work without any server.
const offlineCommands = ['generate', 'check', 'up', 'export', 'drop'];

/** The drizzle-kit configuration of one database. */
export function kitConfig(key: DatabaseKey): Config {
  loadEnvironmentFile();
  const files = { dialect: 'postgresql', schema: `./schema/${key}.ts`, out: `./drizzle/${key}` } as const;
  const offline = offlineCommands.some((command) => process.argv.includes(command));
  if (offline) return defineConfig(files);
  return defineConfig({
    ...files,
    dbCredentials: { url: orExit(() => databaseUrl(key).url) },
    strict: true,
    verbose: true,
  });
}

/** drizzle-kit prints a stack trace for whatever a configuration throws; a user's mistake needs one sentence. */
export function orExit<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    console.error(error.message);
    process.exit(error.exitCode);
  }
}
