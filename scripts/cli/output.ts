// How commands print: tables and sentences for people, JSON for programs.
import { createInterface } from 'node:readline/promises';
import Table from 'cli-table3';
import { isProduction } from '../../src/config.ts';
import { ConfigurationError } from '../../src/errors.ts';

export const printJson = (value: unknown): void => console.log(JSON.stringify(value, null, 2));

/** Prints rows under a head, without lines between them. */
export function printTable(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const table = new Table({
    head: [...head],
    style: { head: process.stdout.isTTY ? ['bold'] : [], border: [], compact: true, 'padding-left': 0 },
    chars: Object.fromEntries(
      ['top', 'bottom', 'left', 'right', 'mid', 'middle'].flatMap((side) =>
        ['', '-mid', '-left', '-right'].map((part) => [side + part, '']),
      ),
    ),
  });
  table.push(...rows.map((row) => [...row]));
  console.log(table.toString().replace(/ +$/gm, ''));
}

const units = ['B', 'kB', 'MB', 'GB', 'TB'];

/** 8192 → "8.0 kB". */
export function formatBytes(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log(bytes) / Math.log(1024)), units.length - 1);
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

/** 1 → "1 row", 2000 → "2,000 rows". */
export const plural = (count: number, noun: string): string =>
  `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;

export const formatCount = (count: number): string => count.toLocaleString('en-US');

/** Destruction needs a second word: a "y" on a terminal, or `--yes`. */
export async function confirmDestruction(what: string, yes: boolean | undefined): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY) {
    throw new ConfigurationError(`${what} Nobody is there to ask, so nothing was done: add --yes to go on.`);
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${what} Go on? [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw new ConfigurationError('Nothing was done.');
  } finally {
    prompt.close();
  }
}

/** @throws ConfigurationError in production, where this command is not allowed. */
export function refuseProduction(command: string): void {
  if (isProduction()) {
    throw new ConfigurationError(`NODE_ENV is "production": ${command} is for development and was not run.`);
  }
}
