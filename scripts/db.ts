#!/usr/bin/env node
// The command line of @atriz/database: npm run db -- <command>, or atriz-db <command>.
import { Command, CommanderError } from 'commander';
import { loadEnvironmentFile, useUtc } from '../src/config.ts';
import { AtrizDatabaseError } from '../src/errors.ts';
import { commandLine } from './arguments.ts';
import { registerCheck } from './commands/check.ts';
import { registerClean } from './commands/clean.ts';
import { registerCreate } from './commands/create.ts';
import { registerDeploy } from './commands/deploy.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerEraseUser } from './commands/erase-user.ts';
import { registerGenerate } from './commands/generate.ts';
import { registerImport } from './commands/import.ts';
import { registerMigrate } from './commands/migrate.ts';
import { registerPurgeTokens } from './commands/purge-tokens.ts';
import { registerReferences } from './commands/references.ts';
import { registerRefreshLate } from './commands/refresh-late.ts';
import { registerReset } from './commands/reset.ts';
import { registerSeed } from './commands/seed.ts';
import { registerStatus } from './commands/status.ts';
import { registerStudio } from './commands/studio.ts';

const program = new Command('atriz-db')
  .description('Creates, migrates and inspects the five Atriz databases.')
  .addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 out of step.\n' +
      'No database named means all of them, in order.',
  )
  .showHelpAfterError('(add --help for the options)')
  .exitOverride();

for (const register of [
  registerCreate,
  registerMigrate,
  registerStatus,
  registerSeed,
  registerClean,
  registerReset,
  registerImport,
  registerRefreshLate,
  registerReferences,
  registerEraseUser,
  registerPurgeTokens,
  registerCheck,
  registerDoctor,
  registerDeploy,
  registerGenerate,
  registerStudio,
]) {
  register(program);
}
// Options of Commander are copied when a command is made, before exitOverride above could reach nested ones.
const override = (command: Command): void => {
  command.exitOverride();
  command.commands.forEach(override);
};
override(program);

// A reader that has seen enough, such as head, is no failure of ours, and no reason to stop half-way.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

loadEnvironmentFile();
useUtc();
try {
  await program.parseAsync(commandLine());
} catch (error) {
  process.exitCode = report(error);
}

/** Prints what went wrong in a sentence and returns the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof AtrizDatabaseError) {
    console.error(error.message);
    return error.exitCode;
  }
  const { message, code, path } = error as NodeJS.ErrnoException;
  // A PostgreSQL or file system error says enough by itself; anything else is a defect of ours.
  console.error(code ? `${message} (${path ?? code})` : error);
  return 1;
}
