// Generates passwords of roles and the statements that set them. Lists sessions that stay open after a change.
import { randomBytes } from 'node:crypto';
import type { Pool } from '../../src/pool.ts';
import { queryCatalog } from '../../src/sql/catalog-path.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { formatVerifier, verifierOf } from './scram-verifier.ts';

/** 192 bits, in characters that need no escape in a URL. */
export const generatePassword = (): string => randomBytes(24).toString('base64url');

/** The server and its log see only the verifier. */
export const passwordStatement = (role: string, password: string): string =>
  `ALTER ROLE ${quoteIdentifier(role)} PASSWORD '${formatVerifier(verifierOf(password))}'`;

/** A session that stays open after the password of its role was changed. */
export interface OldSession {
  readonly pid: number;
  readonly database: string;
  readonly application: string;
  readonly address: string | null;
  /** Null if the connected role may not read the statistics of other sessions. */
  readonly since: Date | null;
}

/**
 * Returns a text that identifies the server and the role, because the databases of one server share their roles.
 * @returns undefined if the role does not exist.
 */
export async function serverOf(db: Pool, role: string): Promise<string | undefined> {
  const { rows } = await queryCatalog<{ server: string }>(
    db,
    `SELECT concat_ws(' ', (pg_control_system()).system_identifier, pg_postmaster_start_time(), oid) AS server
     FROM pg_roles WHERE rolname = $1`,
    [role],
  );
  return rows[0]?.server;
}

/** The sessions of a role, on the whole server. */
export async function openSessions(db: Pool, role: string): Promise<OldSession[]> {
  const { rows } = await queryCatalog<OldSession>(
    db,
    `SELECT pid, datname AS database, application_name AS application, client_addr::text AS address, backend_start AS since
     FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid() ORDER BY backend_start`,
    [role],
  );
  return rows;
}
