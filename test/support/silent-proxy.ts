// A network that goes silent: no packet, no end of the connection, both sides wait.
import { createServer, type Socket, connect as tcpConnect } from 'node:net';

/** Between pool and server: from a message of the client on, nothing passes on that connection, in either direction. */
export async function startSilentProxy(url: string) {
  const { hostname, port } = new URL(url);
  let armed: { text: string; lost: 'request' | 'answer' } | undefined;
  let silent = new Set<Socket>();
  let isMute = false;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = tcpConnect({ host: hostname, port: Number(port || 5432), allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
    }
    if (isMute) silent.add(client);
    client.on('data', (data) => {
      if (silent.has(client)) return;
      const matches = armed && data.toString('latin1').includes(armed.text);
      if (matches && armed) {
        silent.add(client);
        const { lost } = armed;
        armed = undefined;
        if (lost === 'request') return;
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!silent.has(client)) client.write(data);
    });
    client.on('end', () => !silent.has(client) && upstream.end());
    upstream.on('end', () => !silent.has(client) && client.end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxied = new URL(url);
  proxied.hostname = '127.0.0.1';
  proxied.port = String((server.address() as { port: number }).port);
  const silenceAll = () => {
    for (const socket of sockets) if (socket.localPort === Number(proxied.port)) silent.add(socket);
  };
  return {
    url: proxied.href,
    get silent() {
      return silent.size;
    },
    silence: (text: string, lost: 'request' | 'answer') => {
      silent = new Set();
      armed = { text, lost };
    },
    /** Every connection that is open. */
    silenceAll,
    /** Every connection, new ones too. */
    mute: () => {
      isMute = true;
      silenceAll();
    },
    heal: () => {
      for (const s of sockets) s.destroy();
    },
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
