// Says which database could not be reached, why, and what mends it.
import { ConnectionError } from './errors.ts';

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'no server answers there. Start it, or correct host and port',
  ENOTFOUND: 'no host has that name. Correct the host',
  EAI_AGAIN: 'the host name cannot be looked up now. Check the network',
  EHOSTUNREACH: 'the host cannot be reached. Check the network',
  ETIMEDOUT: 'the host does not answer. Check the address and the firewall',
  ENOENT: 'there is no such socket. Start the server, or correct the host',
  ECONNRESET:
    'the server closed the connection. Check its log, and sslmode: the server may want SSL, or offer none',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the server offers no SSL. Check sslmode',
  EPIPE: 'the server closed the connection. Check its log',
  CONNECT_TIMEOUT: 'no answer came in time. Check the address and the firewall',
  CONNECTION_CLOSED: 'the server closed the connection. Check its log',
  CONNECTION_ENDED: 'the pool is closed already. Create it once and close it when the process ends',
  CONNECTION_DESTROYED: 'the pool was closed while the query ran',
  TARGET_SESSION_ATTRS:
    'no host of the URL is what target_session_attrs asks for. Promote a standby, or correct the hosts',
  '28000': 'the server refuses this user. Check the user name and pg_hba.conf',
  '28P01': 'the password is missing or wrong. Correct it in the URL or in PGPASSWORD',
  '3D000': 'the database does not exist. Create it with "npm run db:create"',
  '42501': 'the user may not connect. Grant CONNECT on the database',
  '53300': 'all connections are taken. Lower the pools, or put a pooler in front',
  '57P03': 'the server is starting up or shutting down. Try again in a moment',
};

/** Where a pool is connected to, for messages. Never holds a password. */
export interface Address {
  readonly database: string;
  readonly host: string;
}

/**
 * Wraps what the driver reports of a connection; every other error passes unchanged.
 * 42501 is left to queries: only the login can mean "may not connect" by it.
 */
export function describeConnectionError(error: unknown, address: Address): unknown {
  const code = connectionCode(error);
  if (code === undefined) return error;
  return new ConnectionError(`${address.database} at ${address.host}: ${reasons[code]} (${code}).`, {
    database: address.database,
    code,
    cause: error,
  });
}

/** Whether only postgres.js or PostgreSQL can have thrown it, not any other use of the network. */
export function isDriverError(error: unknown): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (
    typeof code === 'string' &&
    /^(CONNECTION_|CONNECT_TIMEOUT|TARGET_SESSION_ATTRS|[0-9A-Z]{5}$)/.test(code) &&
    !code.startsWith('E')
  );
}

function connectionCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || error instanceof ConnectionError) return undefined;
  const { code, routine } = error as Error & { code?: string; routine?: string };
  if (code === undefined || !Object.hasOwn(reasons, code)) return undefined;
  // The same SQLSTATEs occur inside queries, e.g. when a function lacks a privilege.
  if (code === '42501' && routine !== 'InitPostgres' && routine !== 'CheckMyDatabase') return undefined;
  return code;
}
