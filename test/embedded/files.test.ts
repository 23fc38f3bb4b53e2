// Files that several calls replace at the same time.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeJson } from '../../scripts/embedded/files.ts';

test('of writes that overlap none fails, the last one stays, and nothing is left beside it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-files-'));
  const path = join(folder, 'databases.json');
  try {
    for (let round = 1; round <= 20; round += 1) {
      await Promise.all(Array.from({ length: 20 }, (_, number) => writeJson(path, { round, number })));
      expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({ round, number: 19 });
    }
    expect(readdirSync(folder)).toEqual(['databases.json']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
