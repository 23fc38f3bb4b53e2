// Prints the output of commands: tables and sentences for people, JSON for programs. Asks for confirmation.
import { createInterface } from 'node:readline/promises';
import Table from 'cli-table3';
import { isProduction } from '../../src/config.ts';
import { ConfigurationError } from '../../src/errors.ts';

export const printJson = (value: unknown): void => console.log(JSON.stringify(value, null, 2));

type Cell = string | number;

/** Prints rows under a head, at most as wide as COLUMNS or else the terminal. Without either, rows do not wrap. */
export function printTable(head: readonly string[], rows: readonly (readonly Cell[])[]): void {
  const terminal = process.stdout.isTTY ? process.stdout.columns : Infinity;
  console.log(formatTable(head, rows, Number(process.env.COLUMNS) || terminal));
}

/**
 * Formats a table without borders. If it is wider than `width` characters, cells wrap between words. If a word does
 * not fit or a row takes more than `mostLines` lines, each row becomes a block that lists its non-empty cells.
 */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  width: number,
): string {
  // The gap after the last column is not printed.
  const room = width + gap;
  const columns = head.map((title, index) => [title, ...rows.map((row) => String(row[index] ?? ''))]);
  const needed = columns.map((cells) => widest(cells));
  if (sum(needed) <= room) return layOut(rows, { head: [...head] });
  const least = columns.map((cells) => widest(cells.flatMap((cell) => cell.split(' '))));
  if (sum(least) <= room) {
    const widths = [...needed];
    while (sum(widths) > room) {
      const spare = widths.map((own, index) => (own > (least[index] ?? own) ? own : 0));
      widths[spare.indexOf(Math.max(...spare))] = Math.max(...spare) - 1;
    }
    const lines = Math.max(...needed.map((own, index) => own / (widths[index] ?? own)));
    if (lines <= mostLines) return layOut(rows, { head: [...head], colWidths: widths, wordWrap: true });
  }
  const name = widest([...head]);
  const value = Math.max(room - name, ...least);
  const blocks = rows.map((row) =>
    layOut(
      head.flatMap((title, index) => (row[index] === '' ? [] : [[title, row[index] ?? '']])),
      { colWidths: [name, value], wordWrap: true },
    ),
  );
  return blocks.join('\n\n');
}

/** The most lines that a row of a table may take. */
const mostLines = 3;
const gap = 1;
const widest = (cells: readonly string[]): number => Math.max(0, ...cells.map((cell) => cell.length)) + gap;
const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

function layOut(rows: readonly (readonly Cell[])[], options: Table.TableConstructorOptions): string {
  const isPlain = !process.stdout.isTTY || Boolean(process.env.NO_COLOR);
  const table = new Table({
    ...options,
    style: {
      head: isPlain ? [] : ['bold'],
      border: [],
      compact: true,
      'padding-left': 0,
      'padding-right': gap,
    },
    chars: Object.fromEntries(
      ['top', 'bottom', 'left', 'right', 'mid', 'middle'].flatMap((side) =>
        ['', '-mid', '-left', '-right'].map((part) => [side + part, '']),
      ),
    ),
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString().replace(/ +$/gm, '');
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

/**
 * Asks on the terminal whether to go on, unless `yes` is set.
 * @throws ConfigurationError if the answer is not yes, or if there is no terminal.
 */
export async function confirmDestruction(what: string, yes: boolean | undefined): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY) {
    throw new ConfigurationError(`${what} Nobody is there to ask, so nothing was done: add --yes to go on.`);
  }
  const answer = await ask(`${what} Go on? [y/N] `);
  if (!/^y(es)?$/i.test(answer)) throw new ConfigurationError('Nothing was done.');
}

/** Asks on stderr, because stdout has only the output of the command. */
export async function ask(question: string): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question(question)).trim();
  } finally {
    prompt.close();
  }
}

/** @throws ConfigurationError in production, for commands that are not allowed there. */
export function refuseProduction(command: string): void {
  if (isProduction()) {
    throw new ConfigurationError(`NODE_ENV is "production": ${command} is for development and was not run.`);
  }
}
