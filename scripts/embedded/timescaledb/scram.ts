// The server's side of SCRAM-SHA-256, PostgreSQL's password check.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';

export interface Verifier {
  iterations: number;
  salt: Buffer;
  storedKey: Buffer;
  serverKey: Buffer;
}

/** For a known password. */
export function verifierOf(password: string): Verifier {
  const salt = randomBytes(16);
  const iterations = 4096;
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  return { iterations, salt, storedKey: sha256(clientKey), serverKey: hmac(salted, 'Server Key') };
}

/** From pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. */
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

/** One exchange: `first` answers the client's first message, `final` its second, undefined for a wrong password. */
export class ScramExchange {
  readonly #verifier: Verifier;
  #nonce = '';
  #authMessage = '';

  constructor(verifier: Verifier) {
    this.#verifier = verifier;
  }

  first(clientFirst: string): string | undefined {
    // Channel binding needs TLS, which loopback does without: 'n' or 'y', never 'p'.
    const match = /^[ny],[^,]*,((?:m=[^,]*,)?n=[^,]*,r=([^,]+).*)$/.exec(clientFirst);
    if (!match) return undefined;
    this.#nonce = `${match[2]}${randomBytes(18).toString('base64')}`;
    const { salt, iterations } = this.#verifier;
    const serverFirst = `r=${this.#nonce},s=${salt.toString('base64')},i=${iterations}`;
    this.#authMessage = `${match[1]},${serverFirst}`;
    return serverFirst;
  }

  final(clientFinal: string): string | undefined {
    const match = /^(c=[^,]+,r=([^,]+)[\s\S]*?),p=([^,]+)$/.exec(clientFinal);
    if (!match || match[2] !== this.#nonce) return undefined;
    const authMessage = `${this.#authMessage},${match[1]}`;
    const signature = hmac(this.#verifier.storedKey, authMessage);
    const proof = Buffer.from(match[3] ?? '', 'base64');
    if (proof.length !== signature.length) return undefined;
    const clientKey = Buffer.from(proof.map((byte, index) => byte ^ (signature[index] ?? 0)));
    if (!timingSafeEqual(sha256(clientKey), this.#verifier.storedKey)) return undefined;
    return `v=${hmac(this.#verifier.serverKey, authMessage).toString('base64')}`;
  }
}

function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

function sha256(data: Buffer): Buffer {
  return createHash('sha256').update(data).digest();
}
