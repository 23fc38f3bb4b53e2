#!/usr/bin/env node
// The command line of @atriz/database: npm run db -- <command>, or atriz-db <command>.
import { CommanderError } from 'commander';
import { loadEnvironmentFile, useUtc } from '../src/config.ts';
import { AtrizDatabaseError } from '../src/errors.ts';
import { commandLine } from './arguments.ts';
import { buildProgram } from './program.ts';

const program = buildProgram();

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
