// How a statement of a file reaches the server: inside of the open transaction, or alone outside of any.
import type postgres from 'postgres';
import { sqlState } from '../errors.ts';
import type { Database } from '../pool.ts';

/** The text as PL/pgSQL executes it. Without the semicolon it would refuse SELECT … INTO. */
export const asSent = (text: string): string => `;${text}`;

/**
 * Runs a statement, or several, in the open transaction, which they cannot end: in PL/pgSQL the server refuses BEGIN,
 * COMMIT, ROLLBACK, SAVEPOINT and COPY with the client, however they are written.
 */
export async function runInside(session: Database, text: string): Promise<void> {
  // No quote, dollar or backslash is left, so that the text cannot end the literal or the block.
  const literal = asSent(text).replace(
    /['$\\]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  await session.sql.unsafe(`DO $$ BEGIN EXECUTE E'${literal}'; END $$`);
}

/** Runs exactly one statement outside of a transaction: the extended protocol refuses a second one. */
export async function runAlone(session: Database, text: string): Promise<void> {
  await session.sql.unsafe(text, [], { simple: false } as postgres.UnsafeQueryOptions);
}

/** Whether `runInside` was refused because of what the statement is. */
export const isRefusedInside = (error: unknown): boolean =>
  sqlState(error) === '0A000' && (error as { routine?: string }).routine === 'exec_stmt_dynexecute';
