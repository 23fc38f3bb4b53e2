// Explains connection errors: which database, the reason, and the mend.
import postgres from 'postgres';
import { ConnectionError } from '../errors.ts';
import { findSessionSetting } from './session-settings.ts';

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'no server answers there. Start it, or correct host and port',
  ENOTFOUND: 'no host has that name. Correct the host',
  EAI_AGAIN: 'the host name cannot be looked up now. Check the network',
  EHOSTUNREACH: 'the host cannot be reached. Check the network',
  ETIMEDOUT: 'the host does not answer. Check the address and the firewall',
  ENOENT: 'there is no such socket. Start the server, or correct the host',
  ECONNRESET:
    'the server closed the connection. Check its log, and sslmode: the server may want SSL, or offer none',
  TLS_NOT_OFFERED:
    'the server offers no TLS, which sslmode demands. Set ssl = on in its configuration, or check sslmode',
  EPIPE: 'the server closed the connection. Check its log',
  CONNECT_TIMEOUT: 'no answer came in time. Check the address and the firewall',
  CONNECTION_CLOSED: 'the server closed the connection. Check its log',
  CONNECTION_ENDED: 'the pool is closed already. Create it once and close it when the process ends',
  CONNECTION_REPLACED:
    'the server owed an answer, and another host of the URL has become the primary. What was asked may have been done. Try again',
  CONNECTION_DESTROYED: 'the pool was closed while the query ran',
  TARGET_SESSION_ATTRS:
    'no host of the URL is what target_session_attrs asks for. Promote a standby, or correct the hosts',
  '28000': 'the server refuses this user. Check the user name and pg_hba.conf',
  '28P01': 'the password is missing or wrong. Correct it in the URL or in PGPASSWORD',
  '3D000': 'the database does not exist. Create it with "npm run db:create"',
  '42501': 'the user may not connect. Grant CONNECT on the database',
  '53300': 'all connections are taken. Lower the pools, or put a pooler in front',
  '57P01': 'the server or its administrator ended the session. Try again',
  '57P02': 'the server ended the session, because another one crashed. Check its log',
  '57P03': 'the server is starting up or shutting down. Try again in a moment',
};

/** Address of a pool, for messages. Never contains a password. */
export interface Address {
  readonly database: string;
  readonly host: string;
}

/** Wraps connection errors of the driver in a ConnectionError; returns every other error unchanged. */
export function describeConnectionError(error: unknown, { database, host }: Address): unknown {
  if (!(error instanceof Error) || error instanceof ConnectionError) return error;
  const { code } = error as Error & { code?: string };
  if (code === undefined) return error;
  const reason =
    reasonOf(error, code) ?? (isOfConnection(error, code) ? generalReason(error, code) : undefined);
  if (reason === undefined) return error;
  const message = `${database} at ${host}: ${reason} (${code}).`;
  return new ConnectionError(message, { database, code, cause: error });
}

/** Node error codes for TLS and certificates. */
const isTls =
  /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|CRL_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_(CA|PURPOSE)|HOSTNAME_MISMATCH|PATH_LENGTH_EXCEEDED)/;

/** The reason, if it depends on the error's message and not only on its code; else undefined. */
function reasonOf(error: Error, code: string): string | undefined {
  const { message } = error;
  if (code === 'REQUIRE_AUTH') {
    return `${message.replace(/^The/, 'the').replace(/\.$/, '')}, which require_auth forbids. Check pg_hba.conf, and whether this is the right server`;
  }
  if (isTls.test(code)) {
    return `TLS failed: ${message.trim().replace(/\.$/, '')}. Check sslmode, and the files that sslrootcert, sslcert and sslkey name`;
  }
  const [, parameter] = /\bparameter:? "?([\w.]+)/.exec(message) ?? [];
  if (!isFatal(error) || parameter === undefined) return undefined;
  if (findSessionSetting(parameter)) {
    return (
      `a proxy such as PgBouncer answers there, and refuses ${parameter}. Add pgbouncer=true to the URL; where the proxy ` +
      'gives each client a session of its own, add it to ignore_startup_parameters instead'
    );
  }
  return `the parameter ${parameter} of the URL is refused: ${message}. Remove or correct it`;
}

/** Whether the error can only come from postgres.js or PostgreSQL, not from other network code. */
export function isDriverError(error: unknown): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (
    typeof code === 'string' &&
    /^(CONNECTION_|CONNECT_TIMEOUT|TARGET_SESSION_ATTRS|[0-9A-Z]{5}$)/.test(code) &&
    !code.startsWith('E')
  );
}

function generalReason(error: Error, code: string): string {
  const reason = [reasons[code], serverReason(error)].filter(Boolean).join('. The server says: ');
  return reason || 'the server ended the session';
}

/** Joins the server's message, detail and hint, without their final full stops. */
function serverReason(error: Error): string | undefined {
  if (!(error instanceof postgres.PostgresError)) return undefined;
  const parts = [error.message, error.detail, error.hint].filter((part) => part !== undefined);
  return parts.map((part) => part.replace(/\.$/, '')).join('. ');
}

/** After FATAL or PANIC the server closes the connection. PgBouncer sends only the localized severity. */
function isFatal(error: Error): boolean {
  const { severity, severity_local: local } = error as Partial<postgres.PostgresError>;
  return ['FATAL', 'PANIC'].includes(severity ?? local ?? '');
}

/** A statement such as DROP DATABASE can fail with a SQLSTATE of `reasons` too, but that does not end the session. */
function isOfConnection(error: Error, code: string): boolean {
  return isFatal(error) || (!(error instanceof postgres.PostgresError) && Object.hasOwn(reasons, code));
}
