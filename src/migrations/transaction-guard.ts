// Sends a statement of a file to the server: inside the open transaction, or alone without a transaction.
import type postgres from 'postgres';
import { sqlState } from '../errors.ts';
import type { Database } from '../pool.ts';

/** The text as PL/pgSQL executes it. Without the leading semicolon, PL/pgSQL would refuse SELECT … INTO. */
export const asSent = (text: string): string => `;${text}`;

/**
 * Runs one or more statements in the open transaction, which they cannot end: PL/pgSQL refuses BEGIN, COMMIT, ROLLBACK,
 * SAVEPOINT, and COPY with STDIN or STDOUT, in any spelling.
 */
export async function runInside(session: Database, text: string): Promise<void> {
  if (indexPerChunk.test(text)) throw perChunkInside();
  // Escape quotes, dollars and backslashes, so that the text cannot end the literal or the block.
  const literal = asSent(text).replace(
    /['$\\]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  await session.sql.unsafe(`DO $$ BEGIN EXECUTE E'${literal}'; END $$`);
}

/** Matches TimescaleDB's form of CREATE INDEX CONCURRENTLY for hypertables, which uses a transaction for each chunk. */
export const indexPerChunk = /\bcreate\s+index\b[^;]*\btimescaledb\s*\.\s*transaction_per_chunk\b/i;

// TimescaleDB 2.29.2 does not detect the transaction of a DO block, and crashes the server.
const perChunkInside = () =>
  Object.assign(
    new Error(
      'CREATE INDEX ... WITH (timescaledb.transaction_per_chunk) cannot run inside a transaction block',
    ),
    { code: '25001', severity: 'ERROR' },
  );

/** Runs exactly one statement outside of a transaction: the extended protocol refuses a second one. */
export async function runAlone(session: Database, text: string): Promise<void> {
  await session.sql.unsafe(text, [], { simple: false } as postgres.UnsafeQueryOptions);
}

/** Whether `runInside` failed because PL/pgSQL refuses this kind of statement. */
export const isRefusedInside = (error: unknown): boolean =>
  sqlState(error) === '0A000' && (error as { routine?: string }).routine === 'exec_stmt_dynexecute';
