// What is read from a disk is checked: the first thing that is wrong with a manifest is named.
import { expect, test } from 'vitest';
import { parseManifest } from '../../../scripts/backup/library/manifest.ts';

test.each([
  ['{', 'it is not JSON'],
  ['[]', 'format: Invalid key: Expected "format" but received undefined'],
  [
    '{"format":"atriz-backup-2"}',
    'format: Invalid type: Expected "atriz-backup-1" but received "atriz-backup-2"',
  ],
  ['{"format":"atriz-backup-1","startedAt":"soon"}', 'startedAt: it should be a time'],
  [
    '{"format":"atriz-backup-1","startedAt":"2026-01-01","finishedAt":"2026-01-01","databases":[{}]}',
    'databases.0.key: Invalid key',
  ],
])('%s: %s', (text, reason) => {
  expect(() => parseManifest(text, 'manifest.json')).toThrow(reason);
});
