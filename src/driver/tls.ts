// Encrypts connections with TLS, as libpq's sslmode defines it.
// If the host is an IP address, postgres.js checks the certificate against "localhost". It waits forever if the server
// closes the connection instead of answering the SSLRequest, and accepts an answer that is longer than one byte.
import { readFileSync } from 'node:fs';
import { isIP, type Socket } from 'node:net';
import * as tls from 'node:tls';
import { ConfigurationError } from '../errors.ts';
import { type DatabaseUrl, impliedSslMode, isWeak } from './database-url.ts';

export interface Encryption {
  /** If false, a server that offers no TLS is used without encryption. */
  readonly isRequired: boolean;
  /** Whether TLS starts without an SSLRequest, which needs PostgreSQL 17 or newer. */
  readonly isDirect: boolean;
  /** Whether the certificate must match the host. */
  readonly namesHost: boolean;
  readonly sendsName: boolean;
  readonly options: tls.ConnectionOptions;
}

/** @returns undefined without TLS. @throws ConfigurationError for an unusable file or contradictory parameters. */
export function encryptionOf(
  ssl: boolean | tls.ConnectionOptions | undefined,
  { sslMode, parameters }: DatabaseUrl,
): Encryption | undefined {
  const given = { isRequired: true, isDirect: false, namesHost: true, sendsName: true };
  if (ssl === true) return { ...given, options: {} };
  if (ssl !== undefined) return ssl ? { ...given, options: ssl } : undefined;

  const root = parameters.get('sslrootcert');
  const mode = sslMode ?? impliedSslMode(parameters) ?? 'disable';
  const isDirect = parameters.get('sslnegotiation') === 'direct';
  if (root === 'system' && mode !== 'verify-full') throw tooWeak(mode, 'sslrootcert=system', 'verify-full');
  if (isDirect && isWeak(mode)) throw tooWeak(mode, 'sslnegotiation=direct', 'require or more');
  if (mode === 'disable') return undefined;
  const verifies = mode.startsWith('verify-') || (mode === 'require' && root !== undefined);
  if (parameters.has('sslcrl') && !verifies) throw tooWeak(mode, 'sslcrl', 'verify-full');
  return {
    isRequired: !isWeak(mode),
    isDirect,
    namesHost: mode === 'verify-full',
    sendsName: parameters.get('sslsni') !== '0',
    options: { secureContext: readFiles(parameters, verifies), rejectUnauthorized: verifies },
  };
}

const tooWeak = (mode: string, parameter: string, wanted: string) =>
  new ConfigurationError(`sslmode ${mode} is too weak for ${parameter}: use sslmode=${wanted}.`);

function readFiles(parameters: ReadonlyMap<string, string>, verifies: boolean): tls.SecureContext {
  const read = (parameter: string) => {
    const path = parameters.get(parameter);
    if (path === undefined || path === 'system') return undefined;
    try {
      return readFileSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new ConfigurationError(
        `${parameter} is ${path}, which cannot be read (${code}): correct the path.`,
      );
    }
  };
  const sendsCertificate = parameters.get('sslcertmode') !== 'disable';
  const files = {
    ca: verifies ? read('sslrootcert') : undefined,
    crl: verifies ? read('sslcrl') : undefined,
    cert: sendsCertificate ? read('sslcert') : undefined,
    key: sendsCertificate ? read('sslkey') : undefined,
    passphrase: parameters.get('sslpassword'),
  };
  const used = Object.fromEntries(Object.entries(files).filter(([, content]) => content !== undefined));
  const allowed = versions(parameters);
  try {
    return tls.createSecureContext({ ...used, ...allowed });
  } catch (error) {
    const names = [...parameters.keys()].filter((name) => name.startsWith('ssl')).join(', ');
    throw new ConfigurationError(`What ${names} say cannot be used for TLS: ${(error as Error).message}.`, {
      cause: error,
    });
  }
}

/** The default minimum is libpq's, because Node may be configured to allow older versions. */
function versions(parameters: ReadonlyMap<string, string>): tls.SecureContextOptions {
  const most = parameters.get('ssl_max_protocol_version');
  const least = parameters.get('ssl_min_protocol_version') || 'TLSv1.2';
  if (most && most < least) {
    throw new ConfigurationError(
      `ssl_max_protocol_version ${most} is below ssl_min_protocol_version ${least}: no version is left.`,
    );
  }
  return {
    minVersion: least as tls.SecureVersion,
    ...(most && { maxVersion: most as tls.SecureVersion }),
  };
}

const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** @returns the encrypted socket, or the given one if the server offers no TLS and `encryption` does not require it. */
export async function encrypt(socket: Socket, host: string, encryption: Encryption): Promise<Socket> {
  const { isDirect, isRequired, namesHost, sendsName, options } = encryption;
  if (!isDirect && !(await offersTls(socket))) {
    if (!isRequired) return socket;
    throw Object.assign(new Error('The server offers no TLS.'), { code: 'TLS_NOT_OFFERED' });
  }
  const secured = tls.connect({
    ...(sendsName && isIP(host) === 0 && { servername: host }),
    ...(isDirect && { ALPNProtocols: ['postgresql'] }),
    checkServerIdentity: (_, certificate) =>
      namesHost ? checkHost(options.servername ?? host, certificate) : undefined,
    ...options,
    socket,
  });
  return new Promise((resolve, reject) => {
    // Keep this listener: a later error without a listener would crash the process.
    secured.on('error', reject);
    secured.once('secureConnect', () => {
      resolve(secured);
    });
    secured.once('close', () => reject(closedEarly()));
  });
}

function offersTls(socket: Socket): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      socket.off('data', answered).off('error', failed).off('close', closed);
      settle();
    };
    const failed = (error: Error) => end(() => reject(error));
    const closed = () => end(() => reject(closedEarly()));
    const answered = (answer: Buffer) => {
      const [first] = answer;
      // Further bytes come from an attacker: they would be read as if they were encrypted (CVE-2021-23222).
      if (answer.length === 1 && (first === 0x53 || first === 0x4e)) end(() => resolve(first === 0x53));
      else failed(Object.assign(new Error('No answer of PostgreSQL.'), { code: 'ECONNRESET' }));
    };
    socket.on('data', answered).on('error', failed).on('close', closed);
    socket.write(sslRequest);
  });
}

/** As in libpq, an IP address also matches a DNS name in subjectAltName; without an address there, the common name. */
function checkHost(host: string, certificate: tls.PeerCertificate): Error | undefined {
  const problem = tls.checkServerIdentity(host, certificate);
  if (!problem || isIP(host) === 0) return problem;
  const names = certificate.subjectaltname?.split(', ') ?? [];
  if (names.includes(`DNS:${host}`)) return undefined;
  const hasAddress = names.some((name) => name.startsWith('IP Address:'));
  return !hasAddress && certificate.subject.CN === host ? undefined : problem;
}

const closedEarly = () =>
  Object.assign(new Error('The server hung up instead of encrypting.'), { code: 'ECONNRESET' });
