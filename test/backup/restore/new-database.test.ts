// Names of databases beside the real one.
import { expect, test } from 'vitest';
import { shortenName } from '../../../scripts/backup/restore/new-database.ts';

test('keeps the end of a name that is too long, and whole characters', () => {
  expect(shortenName('atriz_db', '_restore_0a')).toBe('atriz_db_restore_0a');
  expect(shortenName('é'.repeat(40), '_restore_0a')).toBe(`${'é'.repeat(26)}_restore_0a`);
});
