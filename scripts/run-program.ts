// One run of the command line: the settings of its folder, the command, and the exit code of what went wrong.
import { CommanderError } from 'commander';
import { loadEnvironmentFile, useUtc } from '../src/config.ts';
import { AtrizDatabaseError } from '../src/errors.ts';
import { commandLine } from './arguments.ts';
import { buildProgram } from './program.ts';

/** Runs the command of `process.argv` and sets `process.exitCode`; never throws. */
export async function runProgram(): Promise<void> {
  loadEnvironmentFile();
  useUtc();
  try {
    await buildProgram().parseAsync(commandLine());
  } catch (error) {
    process.exitCode = report(error);
  }
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
