// A proxy that ends TLS before a real server, so that a test may choose its certificate.
import { once } from 'node:events';
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { TLSSocket } from 'node:tls';

/** For localhost and 127.0.0.1, signed by themselves, of one key that nothing else uses. */
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7f8tFLiWRuRl7sKu
BT2l8pzszn86xep1KX0tDrkuKVehRANCAAR7u6TaHeeIvUZS0qi3jCRysKpS+2eD
XhU94BvrXoMhl3QQIAiJ5r4CRKfRwj+9w00zicZrTcXXlCN8PW43DSNg
-----END PRIVATE KEY-----
`;
/** It expired in 2020. */
export const expiredCertificate = `-----BEGIN CERTIFICATE-----
MIIBZjCCAQugAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwHhcNMTkwMTAxMDAwMDAwWhcNMjAwMTAxMDAwMDAwWjAUMRIwEAYDVQQDDAls
b2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR7u6TaHeeIvUZS0qi3
jCRysKpS+2eDXhU94BvrXoMhl3QQIAiJ5r4CRKfRwj+9w00zicZrTcXXlCN8PW43
DSNgo04wTDAaBgNVHREEEzARhwR/AAABgglsb2NhbGhvc3QwDwYDVR0TAQH/BAUw
AwEB/zAdBgNVHQ4EFgQU0luVE7jXgcjD1dG/NBMMMBV1h7gwCgYIKoZIzj0EAwID
SQAwRgIhAO//oyqwj9AvlQXfgxIQ3wUhO0KUEUBTXIfbl0BKqk0cAiEAoD9O21gI
IGiPkvlnElNFxyS5Zri6I22fChRsSmcRZsc=
-----END CERTIFICATE-----
`;
/** It expires in 2120. */
export const validCertificate = `-----BEGIN CERTIFICATE-----
MIIBZjCCAQ2gAwIBAgIBAjAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHu7pNod54i9RlLS
qLeMJHKwqlL7Z4NeFT3gG+tegyGXdBAgCInmvgJEp9HCP73DTTOJxmtNxdeUI3w9
bjcNI2CjTjBMMBoGA1UdEQQTMBGHBH8AAAGCCWxvY2FsaG9zdDAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBTSW5UTuNeByMPV0b80EwwwFXWHuDAKBggqhkjOPQQD
AgNHADBEAiAETcevsGXVuMDDK7A3yROgtrVI6adMfsPUZIags67ygQIgO9OSGUFR
FlEOxRORG0pzY0+IKPqmOr3MLxgDPUG6F0w=
-----END CERTIFICATE-----
`;

export async function startTlsProxy(url: string, certificate: string) {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  let current = certificate;
  const server = createServer((client) => {
    const upstream = tcpConnect({ host: hostname, port: Number(port || 5432) });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => upstream.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    // The first message is an SSLRequest.
    client.once('data', () => {
      client.write('S');
      const secure = new TLSSocket(client, { isServer: true, key, cert: current });
      secure.on('error', () => upstream.destroy());
      secure.pipe(upstream).pipe(secure);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxied = new URL(url);
  proxied.hostname = '127.0.0.1';
  proxied.port = String((server.address() as { port: number }).port);
  return {
    url: proxied.href,
    /** New connections get this one, and old ones end. */
    use: (renewed: string) => {
      current = renewed;
      for (const socket of sockets) socket.destroy();
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
