// npm run bench: what is not a number is refused before any database is made.
import { expect, test } from 'vitest';
import { countingNumber } from '../scripts/cli/arguments.ts';
import { runSource } from './support/cli.ts';

test('a number that is none is a sentence and exit 2', async () => {
  const { code, stdout, stderr } = await runSource('scripts/bench.ts', ['import', '--rows=abc'], {});
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('It should be a whole number from 1.');
});

test('rows and rounds are counted from 1', () => {
  for (const text of ['0', '-5', '1.5', '', '1e3', '9999999999']) {
    expect(() => countingNumber(text), text).toThrow('whole number from 1');
  }
  expect(countingNumber('10000000')).toBe(10_000_000);
});
