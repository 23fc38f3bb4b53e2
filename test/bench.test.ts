// npm run bench: what is no number is refused before any database is made.
import { expect, test } from 'vitest';
import { runSource } from './support/cli.ts';

test.each(['abc', '0', '-5', '1.5', ''])('refuses --rows "%s" with a sentence and exit 2', async (rows) => {
  const { code, stdout, stderr } = await runSource('scripts/bench.ts', ['import', `--rows=${rows}`], {});
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('It should be a whole number from 1.');
});
