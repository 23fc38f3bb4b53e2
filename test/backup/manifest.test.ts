// What is read from a disk is checked: the first thing that is wrong with a manifest is named.
import { expect, test } from 'vitest';
import { parseManifest } from '../../scripts/backup/manifest.ts';

test.each([
  ['{', 'it is not JSON'],
  ['[]', 'it.format should be "atriz-backup-1"'],
  ['{"format":"atriz-backup-2"}', 'it.format should be "atriz-backup-1"'],
  ['{"format":"atriz-backup-1","startedAt":"soon"}', 'it.startedAt should be a time'],
  [
    '{"format":"atriz-backup-1","startedAt":"2026-01-01","finishedAt":"2026-01-01","databases":[{}]}',
    'it.databases[0].key',
  ],
])('%s: %s', (text, reason) => {
  expect(() => parseManifest(text, 'manifest.json')).toThrow(reason);
});
