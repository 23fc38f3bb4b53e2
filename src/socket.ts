// The sockets of a client's connections: opened to the right host, all closed with the client.
import { Socket } from 'node:net';
import type { DatabaseUrl } from './database-url.ts';

export type Host = DatabaseUrl['hosts'][number];

export interface SocketOptions {
  /** Most milliseconds until a host has accepted. */
  readonly timeoutMs: number;
  /** Which host the next connection goes to; told when one did not accept. */
  readonly pick: () => Promise<Host> | Host;
  readonly onRefused?: (host: Host) => void;
}

/** How long postgres.js may take to say goodbye on a connection, in milliseconds. */
const goodbyeMs = 1_000;

/**
 * By hand because postgres.js offers no `noDelay`, without which the end of each COPY waits 40 ms for a
 * delayed acknowledgement, leaves sockets open that a silent server never closes, and connects again
 * without pause or end where a server hangs up at once. It takes sockets of ours, though.
 */
export class Sockets {
  readonly #options: SocketOptions;
  #open: Socket[] = [];
  #isClosed = false;

  constructor(options: SocketOptions) {
    this.#options = options;
  }

  /** Never rejects, which would cost postgres.js a connection for good: the socket fails instead. */
  readonly connect = async (): Promise<Socket> => {
    const socket = await this.#connect().catch(failedSocket);
    this.#open = this.#open.filter(({ destroyed }) => !destroyed);
    this.#open.push(socket);
    if (this.#isClosed) failSoon(socket, closedError());
    return socket;
  };

  /** Call it when no query may run any more. */
  close(): void {
    this.#isClosed = true;
    setTimeout(() => {
      for (const socket of this.#open) socket.destroy();
    }, goodbyeMs).unref();
  }

  async #connect(): Promise<Socket> {
    const host = await this.#options.pick();
    if (this.#isClosed) throw closedError();
    try {
      return await openSocket(host, this.#options.timeoutMs);
    } catch (error) {
      this.#options.onRefused?.(host);
      throw error;
    }
  }
}

function openSocket({ host, port }: Host, timeoutMs: number): Promise<Socket> {
  const socket = new Socket().setNoDelay(true);
  // What postgres.js sets on its own: for its messages, and for the name in a certificate.
  Object.assign(socket, { host, port });
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const late = () => fail(networkError('CONNECT_TIMEOUT', `${host}:${port} does not accept.`));
    // 0 means without limit, as for libpq.
    const timer = timeoutMs > 0 ? setTimeout(late, timeoutMs) : undefined;
    socket.once('error', fail);
    socket.connect(host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port }, () => {
      clearTimeout(timer);
      socket.off('error', fail);
      socket.once('end', () => {
        // 16 bytes are a cancel request, to which no server answers; a startup message is longer.
        if (socket.bytesRead > 0 || socket.bytesWritten === 16) return;
        socket.destroy(networkError('ECONNRESET', 'The server hung up at once.'));
      });
      resolve(socket);
    });
  });
}

function failedSocket(error: unknown): Socket {
  const socket = new Socket();
  failSoon(socket, error as Error);
  return socket;
}

// Two turns later the listeners of postgres.js are there and its first message is in the cork: one that
// it could not send would keep its connection from ever sending again.
function failSoon(socket: Socket, error: Error): void {
  socket.cork();
  setImmediate(() => setImmediate(() => socket.destroy(error)));
}

const closedError = () => networkError('CONNECTION_DESTROYED', 'The pool is closed.');

const networkError = (code: string, message: string) => Object.assign(new Error(message), { code });
