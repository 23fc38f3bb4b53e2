// Reads the arguments of a script, prints its errors and sets its exit code.
import { subscribe } from 'node:diagnostics_channel';
import { type Command, CommanderError, InvalidArgumentError } from 'commander';
import { type AppSource, locationSources } from '../../schema/tracking.ts';
import { useUtc } from '../../src/config.ts';
import type { NoticeMessage } from '../../src/driver/channels.ts';
import { AtrizDatabaseError, asTyped } from '../../src/errors.ts';
import { isUuid } from '../../src/sql/uuid.ts';
import { parseTime as parseTimeText } from '../../src/tracking/column-types.ts';
import { loadEnvironmentFile } from './environment-file.ts';

/** Omits the first `--`: in `pnpm run x -- --option`, pnpm passes it on to the script; npm does not. */
export const commandLine = (): string[] => {
  const separator = process.argv.indexOf('--', 2);
  return process.argv.filter((_, index) => index !== separator);
};

/**
 * Runs the command that the command line names.
 * @param program must throw a CommanderError instead of ending the process.
 */
export async function runProgram(program: Command): Promise<void> {
  loadEnvironmentFile();
  useUtc();
  printAsTyped();
  if (process.stderr.isTTY) subscribe('@atriz/database:notice', printWait);
  try {
    await program.parseAsync(commandLine());
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** Patches the console: outside of the repository, all output shows `npx atriz-db …` instead of npm scripts. */
function printAsTyped(): void {
  for (const name of ['log', 'error'] as const) {
    const print = console[name].bind(console);
    console[name] = (...parts: unknown[]) =>
      print(...parts.map((part) => (typeof part === 'string' ? asTyped(part) : part)));
  }
}

/** Prints the notice (55P03) that the embedded server sends to a session that waits for another session. */
function printWait(notice: unknown): void {
  const { database, code, message, detail = '' } = notice as NoticeMessage;
  if (code === '55P03') console.error(`${database}: ${message}. ${detail}`);
}

/** Prints the error and returns the exit code. Commander has already printed its own errors. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof AtrizDatabaseError) {
    console.error(error.message);
    return error.exitCode;
  }
  const { message, code, path } = error as NodeJS.ErrnoException;
  // Errors of PostgreSQL and the file system have a code. Any other error is a defect: its stack is printed.
  console.error(code ? `${message} (${path ?? code})` : error);
  return 1;
}

/** Message and exit code of an AtrizDatabaseError or an error with a code. Throws any other error: it is a defect. */
export function failureOf(error: unknown): { message: string; exitCode: 1 | 2 | 3 } {
  if (error instanceof AtrizDatabaseError) return error;
  if (!(error as NodeJS.ErrnoException).code) throw error;
  return { message: (error as Error).message, exitCode: 1 };
}

export function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It should be a whole number from 0.');
}

/** Parses a number of things of which at least one is needed, such as rows or rounds. */
export function countingNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It should be a whole number from 1.');
}

export function parseUuid(text: string): string {
  if (isUuid(text)) return text;
  throw new InvalidArgumentError('It should be a uuid, such as 5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11.');
}

export function parseApplication(text: string): AppSource {
  const source = locationSources.find((name) => name === text);
  if (source !== undefined) return source;
  throw new InvalidArgumentError(`It should be ${locationSources.join(', ')}.`);
}

export function parseTime(text: string): Date {
  const time = parseTimeText(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00Z` : text);
  if (time instanceof Date) return time;
  throw new InvalidArgumentError('It should be ISO 8601, such as 2026-11-01 or 2026-11-01T06:00:00Z.');
}
