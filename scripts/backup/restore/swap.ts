// Replaces the old database with the restored one, in one transaction.
import { setTimeout as sleep } from 'node:timers/promises';
import { sqlState } from '../../../src/errors.ts';
import type { Pool } from '../../../src/pool.ts';
import { quoteIdentifier } from '../../../src/sql/identifiers.ts';
import { withTransaction } from '../../../src/transaction.ts';
import { BackupError } from '../errors.ts';
import { unfinishedRestore } from './new-database.ts';

const client = "backend_type IN ('client backend', 'walsender')";

/** More would flood a terminal. */
const sessionsShown = 10;

/** @throws BackupError listing the sessions that are connected to the database `name`, if there are any. */
export async function refuseSessions(maintenance: Pool, name: string): Promise<void> {
  const { rows } = await maintenance.query<{ session: string }>(
    `SELECT format('%s  %s  %s  %s  %s', pid, usename, coalesce(nullif(application_name, ''), '-'),
       coalesce(host(client_addr), 'socket'), state) AS session
     FROM pg_stat_activity WHERE datname = $1 AND ${client} ORDER BY pid`,
    [name],
  );
  if (rows.length === 0) return;
  const shown = rows.slice(0, sessionsShown).map(({ session }) => `  ${session}`);
  const more = rows.length > sessionsShown ? `\n  and ${rows.length - sessionsShown} more` : '';
  throw new BackupError(
    `${name} is in use, so it was not replaced:\n${shown.join('\n')}${more}\n` +
      'Stop the applications, or take --force, which ends these sessions.',
  );
}

/**
 * Renames `name` to `keptAs`, if `keptAs` is given, and `beside` to `name`, in one transaction. RENAME locks the old
 * database, so that no new session can start while existing sessions end. `force` also ends the sessions of clients.
 */
export async function swapDatabases(
  maintenance: Pool,
  { name, beside, keptAs }: { name: string; beside: string; keptAs: string | undefined },
  { force }: { force: boolean },
): Promise<void> {
  let swapped = false;
  const renaming = withTransaction(maintenance, async (transaction) => {
    if (keptAs !== undefined) {
      await transaction.query(`ALTER DATABASE ${quoteIdentifier(name)} RENAME TO ${quoteIdentifier(keptAs)}`);
    }
    await transaction.query(`ALTER DATABASE ${quoteIdentifier(beside)} RESET ${unfinishedRestore}`);
    await transaction.query(`ALTER DATABASE ${quoteIdentifier(beside)} RENAME TO ${quoteIdentifier(name)}`);
  }).finally(() => {
    swapped = true;
  });
  // RENAME waits 5 seconds for other sessions. The server's own, such as TimescaleDB's scheduler, are always ended.
  await using other = maintenance.dedicated();
  const ending = (async () => {
    while (!swapped) {
      await other.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = ANY ($1) AND (NOT ${client} OR $2)`,
        [[name, beside], force],
      );
      await sleep(50);
    }
  })();
  const [renamed, ended] = await Promise.allSettled([renaming, ending]);
  if (renamed.status === 'fulfilled') return;
  // 55006 object_in_use: a client connected after the last check.
  if (!force && sqlState(renamed.reason) === '55006') await refuseSessions(maintenance, name);
  throw ended.status === 'rejected' ? ended.reason : renamed.reason;
}
