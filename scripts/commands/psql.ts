// psql: opens PostgreSQL's own terminal on a database.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Command } from 'commander';
import { childEnvironment, databaseUrl } from '../../src/config.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { AtrizDatabaseError } from '../../src/errors.ts';
import { selectTarget } from '../../src/targets.ts';
import { libpqEnvironment } from '../backup/client/environment.ts';
import { installedPrograms } from '../backup/client/versions.ts';
import { onSignal } from '../cli/signals.ts';

export function registerPsql(program: Command): void {
  program
    .command('psql')
    .description("open psql on a database; it needs PostgreSQL's client programs, which PG_BIN may name")
    .argument('<database>', 'which')
    .argument('[arguments...]', 'for psql, such as -c "SELECT now()"')
    .allowUnknownOption()
    .action(openPsql);
}

/** Runs psql, whose exit code becomes that of this process. */
async function openPsql(name: string, args: readonly string[]): Promise<void> {
  const { url, origin } = databaseUrl(selectTarget(name));
  // psql supports older servers, so the newest installed version is the best choice.
  const programs = (await installedPrograms()).toSorted((one, other) => other.major - one.major)[0];
  if (!programs) {
    throw new AtrizDatabaseError(
      'There is no psql: install the client programs of PostgreSQL (Debian, Ubuntu: postgresql-client; ' +
        'macOS: brew install libpq), or set PG_BIN to the folder that holds them.',
    );
  }
  const child = spawn(join(programs.folder, 'psql'), args, {
    // The password is passed in the environment, because all users of the machine can see arguments.
    env: childEnvironment({ ...libpqEnvironment(parseDatabaseUrl(url, origin)), PGTZ: 'UTC' }),
    stdio: 'inherit',
  });
  // The terminal sends Ctrl-C to psql directly, and psql cancels its query.
  using _ = onSignal((signal) => {
    if (signal !== 'SIGINT') child.kill(signal);
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}
