// The arguments of a script, whichever package manager ran it, and how it ends.
import { subscribe } from 'node:diagnostics_channel';
import { type Command, CommanderError, InvalidArgumentError } from 'commander';
import { loadEnvironmentFile, useUtc } from '../../src/config.ts';
import type { NoticeMessage } from '../../src/driver/channels.ts';
import { AtrizDatabaseError } from '../../src/errors.ts';
import { isUuid } from '../../src/sql/uuid.ts';

/** pnpm passes the `--` of `pnpm run x -- --option` on to the script, where npm takes it away. */
export const commandLine = (): string[] => {
  const separator = process.argv.indexOf('--', 2);
  return process.argv.filter((_, index) => index !== separator);
};

/** Runs what the command line says. @param program throws a CommanderError where it would end the process. */
export async function runProgram(program: Command): Promise<void> {
  loadEnvironmentFile();
  useUtc();
  if (process.stderr.isTTY) subscribe('@atriz/database:notice', printWait);
  try {
    await program.parseAsync(commandLine());
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** The embedded server says so (55P03) while another session has the database. */
function printWait(notice: unknown): void {
  const { database, code, message, detail = '' } = notice as NoticeMessage;
  if (code === '55P03') console.error(`${database}: ${message}. ${detail}`);
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

export function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It should be a whole number from 0.');
}

/** Of what at least one is needed: rows, rounds. */
export function countingNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It should be a whole number from 1.');
}

export function parseUuid(text: string): string {
  if (isUuid(text)) return text;
  throw new InvalidArgumentError('It should be a uuid, such as 5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11.');
}
