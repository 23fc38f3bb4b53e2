// SCRAM-SHA-256 verifiers: what PostgreSQL stores instead of a password, computed here so that no password is sent.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';

// Implemented here: drivers have the client side of SCRAM, but not the stored form.
export interface Verifier {
  iterations: number;
  salt: Buffer;
  storedKey: Buffer;
  serverKey: Buffer;
}

/** The default iteration count and salt length are PostgreSQL's. */
export function verifierOf(password: string, salt: Buffer = randomBytes(16), iterations = 4096): Verifier {
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  return { iterations, salt, storedKey: sha256(clientKey), serverKey: hmac(salted, 'Server Key') };
}

/** Parses pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. */
export function parseVerifier(stored: string): Verifier | undefined {
  const match = /^SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)$/.exec(stored);
  if (!match) return undefined;
  const [, iterations, salt, storedKey, serverKey] = match;
  return {
    iterations: Number(iterations),
    salt: Buffer.from(salt ?? '', 'base64'),
    storedKey: Buffer.from(storedKey ?? '', 'base64'),
    serverKey: Buffer.from(serverKey ?? '', 'base64'),
  };
}

/** Formats a verifier as text that ALTER ROLE … PASSWORD stores unchanged. */
export function formatVerifier({ iterations, salt, storedKey, serverKey }: Verifier): string {
  const base64 = (bytes: Buffer) => bytes.toString('base64');
  return `SCRAM-SHA-256$${iterations}:${base64(salt)}$${base64(storedKey)}:${base64(serverKey)}`;
}

/** Whether the stored verifier matches the password. */
export function verifies(stored: string | null, password: string): boolean {
  const verifier = parseVerifier(stored ?? '');
  if (!verifier) return false;
  return verifierOf(password, verifier.salt, verifier.iterations).storedKey.equals(verifier.storedKey);
}

export function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

export function sha256(data: Buffer): Buffer {
  return createHash('sha256').update(data).digest();
}
