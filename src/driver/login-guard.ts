// require_auth: limits the authentication methods, so that a fake server does not get the password.
// postgres.js answers every authentication request of a server, even one for a password in clear text.
import type { Socket } from 'node:net';

/** Authentication methods by the code in the server's message. */
const methods: Readonly<Record<number, string>> = {
  3: 'password',
  5: 'md5',
  7: 'gss',
  8: 'gss',
  9: 'sspi',
  10: 'scram-sha-256',
};
const granted = 0;
const scramIsProven = 12;

/** Destroys the socket when the server requests a method that is not allowed, before postgres.js answers. */
export function guardLogin(socket: Socket, requireAuth: string): void {
  const names = requireAuth.split(',').map((name) => name.replace('!', ''));
  const isAllowed = (method: string) => names.includes(method) !== requireAuth.startsWith('!');
  let received = Buffer.alloc(0);
  let asked = 'none';
  let isProven = false;
  // postgres.js adds its own listener later, when it sends the startup packet. Until then, no data arrives.
  socket.on('data', read);

  function read(chunk: Buffer): void {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 5) {
      const length = received.readUInt32BE(1) + 1;
      if (received.length < length) return;
      const isAuthentication = received[0] === 0x52 && length >= 9;
      if (isAuthentication && !examine(received.readUInt32BE(5))) return;
      received = received.subarray(length);
    }
  }

  function examine(type: number): boolean {
    if (type === granted) {
      socket.off('data', read);
      if (asked === 'scram-sha-256' && !isProven) return refuse('lets the client in without proving itself');
      return isAllowed(asked) || refuse('asks for nothing');
    }
    if (type === scramIsProven) isProven = true;
    const method = methods[type];
    if (method === undefined) return true;
    asked = method;
    return isAllowed(method) || refuse(`asks for ${method}`);
  }

  function refuse(what: string): false {
    socket.off('data', read);
    socket.destroy(Object.assign(new Error(`The server ${what}.`), { code: 'REQUIRE_AUTH' }));
    return false;
  }
}
