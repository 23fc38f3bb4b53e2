// Which pg_dump and pg_restore are taken, among several.
import { describe, expect, test } from 'vitest';
import {
  type ClientPrograms,
  choosePgDump,
  choosePgRestore,
  requirePgDump,
} from '../../../scripts/backup/client/versions.ts';

const installed = (...versions: string[]): ClientPrograms[] =>
  versions.map((version) => ({ folder: `/pg/${version}`, version, major: Number.parseInt(version, 10) }));

describe('choosePgDump', () => {
  test.each([
    [['15.4'], 15, '15.4'],
    [['18.1', '15.4', '17.2', '15.14'], 15, '15.14'],
    [['18.1', '17.2'], 17, '17.2'],
    [['18.1'], 17, '18.1'],
    [['16.3'], 15, '16.3'],
    [['15.4'], 17, undefined],
    // Its archive sets transaction_timeout, which a server before 17 does not know.
    [['17.2'], 16, undefined],
    [[], 15, undefined],
  ])('of %j for a server %d: %s', (versions, server, wanted) => {
    expect(choosePgDump(installed(...versions), server)?.version).toBe(wanted);
  });
});

test.each([
  [['15.4', '16.1'], 15, 17, '15.4'],
  [['15.4', '17.1'], 16, 17, '17.1'],
  [['15.4'], 16, 17, undefined],
  [['17.1'], 16, 16, undefined],
])('choosePgRestore of %j for an archive of %d and a server %d: %s', (versions, dump, server, wanted) => {
  expect(choosePgRestore(installed(...versions), dump, server)?.version).toBe(wanted);
});

test.each([
  [['15.4'], 17, 'pg_dump 15.4 (/pg/15.4) is too old'],
  [['17.2'], 16, 'pg_dump 17.2 (/pg/17.2) is too new'],
  [[], 17, 'there is no pg_dump'],
])('requirePgDump of %j for a server %d says: %s', (versions, major, reason) => {
  const require = () =>
    requirePgDump(installed(...versions), { database: 'atriz_core', version: `${major}.1`, major });
  expect(require).toThrow(reason);
  expect(require).toThrow(`postgresql-client-${major}`);
});
