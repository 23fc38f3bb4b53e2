// Types and helpers for the checks of the doctor and their findings.

import type { DatabaseTarget } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import type { Transaction } from '../../src/transaction.ts';

export interface Finding {
  /** Name of the check that found it. */
  readonly check: string;
  /** An error is a problem now (exit code 3). A warning may become a problem later, or has a cost. */
  readonly severity: 'error' | 'warning';
  /** A sentence: what is wrong, where, and why it matters if that is not obvious. */
  readonly reason: string;
  /** A shell command, an instruction, or SQL to run in the database. */
  readonly mend: string;
  /** Additional information about the mend. */
  readonly note?: string;
  /** The check could not run, for example without a privilege, so the finding says nothing about the database. */
  readonly isUnchecked?: boolean;
}

export interface Check {
  readonly name: string;
  /** One line for users: what it checks. */
  readonly looksAt: string;
  /** Checks the server: runs once per server, on its first database. */
  readonly ofServer?: boolean;
  /** Concerns rows or jobs, which a deployment does not fix. `deploy` reports its errors and continues. */
  readonly isOfOperation?: boolean;
  /** Creates a scratch database, which takes seconds and needs the right to create databases. */
  readonly usesScratch?: boolean;
  /** Read-only. A missing privilege or a timeout becomes a warning, so that the other checks still run. */
  run(db: Pool, key: DatabaseTarget): Promise<Found[]>;
}

/** Runs a check with a search_path on which objects in the database cannot shadow those of pg_catalog. */
export const onCatalogPath =
  (look: (db: Transaction, key: DatabaseTarget) => Promise<Found[]>): Check['run'] =>
  (db, key) =>
    withCatalogPath(db, (transaction) => look(transaction, key), { readOnly: true });

/** A finding without the name of its check. */
export type Found = Omit<Finding, 'check'>;

export const error = (reason: string, mend: string, note?: string): Found => ({
  severity: 'error',
  reason,
  mend,
  ...(note && { note }),
});

export const warning = (reason: string, mend: string, note?: string): Found => ({
  ...error(reason, mend, note),
  severity: 'warning',
});
