// What a check of the doctor is, and what it reports.

import type { DatabaseKey } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import type { Transaction } from '../../src/transaction.ts';
import type { Thresholds } from './thresholds.ts';

export interface Finding {
  /** Name of the check that found it. */
  readonly check: string;
  /** An error is wrong now, and the command ends with 3; a warning goes wrong in time, or costs something. */
  readonly severity: 'error' | 'warning';
  /** A sentence: what is wrong, where, and why it matters where that is not plain. */
  readonly reason: string;
  /** A command, or SQL to be run in the database. */
  readonly mend: string;
  /** What else to know before or after it. */
  readonly note?: string;
}

export interface Check {
  readonly name: string;
  /** One line for people: what it looks at. */
  readonly looksAt: string;
  /** Asks about the server: asked once for each server, of its first database. */
  readonly ofServer?: boolean;
  /** Reads only. A missing right or a timeout becomes a warning: one check must not hide the others. */
  run(db: Pool, key: DatabaseKey, thresholds: Thresholds): Promise<Found[]>;
}

/** What a check asks of the catalog: without a word of what the owner of the database put before it. */
export const onCatalogPath =
  (look: (db: Transaction, key: DatabaseKey, thresholds: Thresholds) => Promise<Found[]>): Check['run'] =>
  (db, key, thresholds) =>
    withCatalogPath(db, (transaction) => look(transaction, key, thresholds), { readOnly: true });

/** A finding before the check's name is put to it. */
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
