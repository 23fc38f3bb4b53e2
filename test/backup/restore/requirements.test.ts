// Which versions of extensions a backup can be restored on.
import { expect, test } from 'vitest';
import { refuseExtensions } from '../../../scripts/backup/restore/requirements.ts';

const refuse = (version: string, ...offered: string[]) =>
  refuseExtensions(
    { key: 'tracking', extensions: [{ name: 'timescaledb', version }] },
    offered.map((one) => ({ name: 'timescaledb', version: one })),
  );

test('TimescaleDB has to be the version of the dump, which may stand beside a newer one', () => {
  expect(() => refuse('2.23.1', '2.24.0', '2.23.1')).not.toThrow();
  expect(() => refuse('2.23.1', '2.24.0', '2.25.0')).toThrow(
    /^tracking was dumped with TimescaleDB 2\.23\.1, and the server offers 2\.24\.0, 2\.25\.0\. .*install that version beside, restore, then run ALTER EXTENSION timescaledb UPDATE\.$/,
  );
  expect(() => refuse('2.23.1')).toThrow(
    'tracking needs the extension timescaledb, which the server does not offer: install it.',
  );
});

test('another extension is made in the version that the server has', () => {
  const backup = { key: 'mextrack', extensions: [{ name: 'btree_gist', version: '1.6' }] };
  expect(() => refuseExtensions(backup, [{ name: 'btree_gist', version: '1.7' }])).not.toThrow();
});
