// Arguments, environment and output of drizzle-kit for one database.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { childEnvironment } from '../../src/config.ts';
import { type DatabaseKey, type DatabaseTarget, databases, keyOf } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';

/** Arguments for Node.js: drizzle-kit's entry file, the command, and the configuration file of the database. */
export function kitArguments(key: DatabaseKey, command: string, extra: readonly string[] = []): string[] {
  const entry = join(packageRoot(), 'node_modules', 'drizzle-kit', 'bin.cjs');
  if (!existsSync(entry)) {
    throw new ConfigurationError(
      `drizzle-kit is not in ${packageRoot()}: this command works in the repository of @atriz/database, after "npm install", not in an installed package.`,
    );
  }
  const own = `drizzle.${key}.config.ts`;
  const config = existsSync(join(packageRoot(), own)) ? own : 'drizzle.apps.config.ts';
  return [entry, command, '--config', config, ...extra];
}

/** The environment for drizzle-kit. drizzle.apps.config.ts reads `APP`. Set `url` if a key has several databases. */
export const kitEnvironment = (target: DatabaseTarget, url?: string): NodeJS.ProcessEnv =>
  childEnvironment({ APP: keyOf(target), ...(url && { [databases[keyOf(target)].urlVariable]: url }) });

/** Whether drizzle-kit stopped because it needed an answer from a terminal. */
export const needsTerminal = (output: string): boolean =>
  output.includes('Interactive prompts require a TTY');

export const renameQuestion = 'drizzle-kit has to ask whether something is new or was renamed';

/** Removes the stack trace from the output of drizzle-kit. */
export const withoutStack = (output: string): string => output.replace(/^ +at .*\n?/gm, '').trim();
