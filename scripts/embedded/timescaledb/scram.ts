// The server side of SCRAM-SHA-256, PostgreSQL's password authentication (RFC 5802, RFC 7677).
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { hmac, sha256, type Verifier } from '../../access/scram-verifier.ts';

/**
 * One login: `first` answers the client's first message, `final` answers the second. Both return undefined for a
 * malformed message; `final` also returns undefined for a wrong password.
 */
export class ScramExchange {
  readonly #verifier: Verifier;
  #nonce = '';
  #authMessage = '';

  constructor(verifier: Verifier) {
    this.#verifier = verifier;
  }

  first(clientFirst: string): string | undefined {
    // Channel binding ('p') requires TLS, which this server does not have.
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
