// Published security holes in extensions that this package uses, newest last.

export interface KnownHole {
  readonly extension: string;
  /** The first version without the hole. */
  readonly closedIn: string;
  readonly id: string;
  /** What an attacker can do, as a clause. */
  readonly risk: string;
}

/**
 * Source: https://github.com/timescale/timescaledb/security/advisories/ followed by the id, and TimescaleDB's change log
 * for the versions that close the holes.
 */
export const knownHoles: readonly KnownHole[] = [
  {
    extension: 'timescaledb',
    closedIn: '2.25.2',
    id: 'GHSA-vgp2-jj5c-828m',
    risk: 'objects that another role put on the search_path run with the rights of the role that creates or updates the extension',
  },
  {
    extension: 'timescaledb',
    closedIn: '2.29.1',
    id: 'GHSA-hcfx-29v5-2rcw',
    risk: 'every role that may connect can drop or freeze chunks of tables that it may not even read',
  },
];

/** Major version of PostgreSQL → the last TimescaleDB that supports it. The newest one supports all other versions. */
export const lastTimescale: Readonly<Record<number, string>> = { 15: '2.28' };
