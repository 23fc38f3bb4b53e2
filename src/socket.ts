// The TCP socket of a connection, without Nagle's algorithm.
import { Socket } from 'node:net';

/** A socket that connects by itself as soon as postgres.js listens to it. */
export type SocketFactory = () => Socket;

/**
 * postgres.js offers no `noDelay`, and without it the end of each COPY waits 40 ms for a delayed
 * acknowledgement: 1,000 rows take 60 ms instead of 16. It takes a socket of ours, though.
 */
export function tcpSocket(host: string, port: number): SocketFactory {
  return () => {
    const socket = new Socket().setNoDelay(true);
    // What postgres.js sets on its own: for its messages, and for the name in a certificate.
    Object.assign(socket, { host, port });
    // Two turns later its listeners are there and its first message is in the cork.
    socket.cork();
    setImmediate(() =>
      setImmediate(() => {
        if (socket.destroyed) return;
        socket.connect({ host, port });
        socket.uncork();
      }),
    );
    return socket;
  };
}
