// The first thing that a newcomer runs, with a smaller fleet.
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runSource } from './support/cli.ts';

test('npm run quickstart goes from nothing to answers, and leaves nothing behind', async () => {
  const { code, stdout, stderr } = await runSource(
    'scripts/quickstart.ts',
    ['--vehicles', '3', '--days', '9'],
    {},
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('27,054 points in');
  expect(stdout).toMatch(/the chunks older than 7 days: .* times smaller/);
  expect(stdout).toMatch(/Truck 3\s+20\d\d-/);
  expect(stdout).toMatch(/Truck 1: 1,00\d points in the last 24 hours/);
  expect(stdout).toContain('npm run dev');
  const folder = /(\/\S*atriz-quickstart-\S*)/.exec(stdout)?.[1];
  if (folder) expect(existsSync(folder)).toBe(false);
});
