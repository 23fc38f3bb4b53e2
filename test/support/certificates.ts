// Certificates of a test's own, made by openssl: an authority, and what it signs.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const openssl = (args: readonly string[], folder: string) =>
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });

export class Authority {
  readonly root: string;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.root = join(folder, 'root.crt');
    this.#make('root', ['-subj', '/CN=A test authority']);
  }

  /** Files of a certificate and its key. @param alternativeName such as `DNS:localhost`. */
  sign(name: string, { commonName = 'server', alternativeName, passphrase }: Signed = {}) {
    const signedBy = [
      '-CA',
      'root.crt',
      '-CAkey',
      'root.key',
      '-addext',
      'basicConstraints=critical,CA:FALSE',
    ];
    const names = alternativeName ? ['-addext', `subjectAltName=${alternativeName}`] : [];
    this.#make(name, ['-subj', `/CN=${commonName}`, ...signedBy, ...names], passphrase);
    return { certificate: join(this.#folder, `${name}.crt`), key: join(this.#folder, `${name}.key`) };
  }

  /** @returns a list that holds this one certificate. */
  revoke(certificate: string): string {
    writeFileSync(join(this.#folder, 'index.txt'), '');
    const settings = '[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_md = sha256\n';
    writeFileSync(join(this.#folder, 'ca.conf'), `${settings}default_crl_days = 2\n`);
    const ca = ['ca', '-config', 'ca.conf', '-cert', 'root.crt', '-keyfile', 'root.key'];
    openssl([...ca, '-revoke', certificate], this.#folder);
    openssl([...ca, '-gencrl', '-out', 'revoked.crl'], this.#folder);
    return join(this.#folder, 'revoked.crl');
  }

  #make(name: string, more: readonly string[], passphrase?: string): void {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', `${name}.key`];
    const locked = passphrase ? ['-passout', `pass:${passphrase}`] : ['-nodes'];
    openssl(['req', '-x509', '-days', '2', ...key, ...locked, '-out', `${name}.crt`, ...more], this.#folder);
  }
}

interface Signed {
  commonName?: string;
  alternativeName?: string;
  passphrase?: string;
}
