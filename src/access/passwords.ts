// Passwords of roles: made, set as a verifier, never sent.
import { randomBytes } from 'node:crypto';
import { quoteIdentifier } from '../identifiers.ts';
import type { Database } from '../pool.ts';
import { formatVerifier, verifierOf } from './verifier.ts';

/** 192 bits, in characters that need no escape in a URL. */
export const generatePassword = (): string => randomBytes(24).toString('base64url');

/** The server, and its log, see the verifier only. */
export const passwordStatement = (role: string, password: string): string =>
  `ALTER ROLE ${quoteIdentifier(role)} PASSWORD '${formatVerifier(verifierOf(password))}'`;

/** A session that logged in with the old password and goes on. */
export interface OldSession {
  readonly pid: number;
  readonly database: string;
  readonly application: string;
  readonly address: string | null;
  readonly since: Date;
}

/**
 * Gives a role a new password. Sessions that are open stay open.
 * @returns those sessions, on the whole server.
 */
export async function rotatePassword(db: Database, role: string, password: string): Promise<OldSession[]> {
  await db.query(passwordStatement(role, password));
  const { rows } = await db.query<OldSession>(
    `SELECT pid, datname AS database, application_name AS application, client_addr::text AS address, backend_start AS since
     FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid() ORDER BY backend_start`,
    [role],
  );
  return rows;
}
