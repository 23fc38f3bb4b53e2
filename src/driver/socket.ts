// Sockets of a client: opened to the right host, with a timeout, and all closed with the client.
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from './database-url.ts';
import { guardLogin } from './login-guard.ts';
import { MessageReader } from './server-messages.ts';
import { SilenceWatch } from './silence.ts';
import { type Encryption, encrypt } from './tls.ts';

export interface SocketOptions {
  /** Milliseconds for connection, TLS and login together; 0 means no limit. */
  readonly timeoutMs: number;
  /** Undefined: no TLS. Unix sockets never use TLS, as in libpq. */
  readonly encryption?: Encryption | undefined;
  /** `require_auth`: authentication methods that the client accepts. */
  readonly requireAuth?: string | undefined;
  /** `pick` chooses the host of the next connection; `onRefused` is called if the connection or its login fails. */
  readonly pick: () => Promise<Host> | Host;
  readonly onRefused?: (host: Host) => void;
  /** Runs before a login, on a separate connection with its own timeout. */
  readonly prepare?: (host: Host) => Promise<void>;
  /** Whether another host has replaced this host, which owes an answer. Must not reject. */
  readonly isReplaced?: ((host: Host) => Promise<boolean>) | undefined;
  /** Delays attempts after failures. */
  readonly pace?: Pace;
}

/** How long postgres.js may take to send Terminate on a connection, in milliseconds. */
const goodbyeMs = 1_000;

/** Milliseconds to wait after a failed write for the server's last message, which has usually arrived already. */
const lastWordsMs = 200;

/** Errors of the server or network that ended a connection after its login. */
const losses = new WeakSet<object>();

const neverConnected = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENOENT'];

/** Whether the error means a lost connection. A network error has no severity; a failed login is not a loss. */
export function meansLoss(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  if (losses.has(error)) return true;
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (typeof code !== 'string' || severity !== undefined || isUnsent(error) || neverConnected.includes(code))
    return false;
  return /^(CONNECTION_|E[A-Z]+$)/.test(code);
}

/** Whether the query was never sent, because its client opened no more connections. */
export const isUnsent = (error: unknown): boolean =>
  (error as { code?: unknown }).code === 'CONNECTION_RETIRED';

/** Whether no server ran the query: it was not sent, or the server had just ended the idle session (57P05). */
export const hasNotRun = (error: unknown): boolean =>
  isUnsent(error) || (error as { code?: unknown }).code === '57P05';

/** Delays connection attempts after failures, longer each time. All clients of a connector share one `Pace`. */
export class Pace {
  #failures = 0;
  #failedAt = 0;

  /** @returns the milliseconds that it waited. */
  async wait(mostMs: number): Promise<number> {
    const pauseMs = this.#failures === 0 ? 0 : Math.min(3 ** this.#failures * 10, mostMs);
    const leftMs = Math.max(this.#failedAt + pauseMs - performance.now(), 0);
    if (leftMs > 0) await sleep(leftMs);
    return leftMs;
  }

  failed(): void {
    this.#failures += 1;
    this.#failedAt = performance.now();
  }

  succeeded(): void {
    this.#failures = 0;
  }
}

/**
 * Replaces the sockets of postgres.js. They do not set TCP_NODELAY, so each COPY ends 40 ms late. They stay open when a
 * server no longer answers. If a server hangs up during the login, they reconnect endlessly, without a pause.
 */
export class Sockets {
  readonly #options: SocketOptions;
  readonly #open = new Map<Socket, { readonly host: Host; end(error: Error): void }>();
  readonly #silence: SilenceWatch | undefined;
  /** Set when no more connections are opened: the error for each further request. */
  #refusal: Error | undefined;
  #live = 0;
  #closing: Error | undefined;
  #ending: Promise<unknown> | undefined;
  #pid: number | undefined;
  /** Called when a connection failed before its login ended and no other is open, so that waiting queries can fail. */
  onDown: (error: Error) => void = () => undefined;

  constructor(options: SocketOptions) {
    this.#options = options;
    const { isReplaced } = options;
    this.#silence = isReplaced && new SilenceWatch(isReplaced, (host) => this.#leave(host));
  }

  /**
   * Defined while a connection has failed but is not closed; resolves when all are closed. postgres.js would send to
   * such a connection, get no answer, and never send anything on its replacement.
   */
  get ending(): Promise<unknown> | undefined {
    return this.#ending;
  }

  /** Sends a query after all failed connections are closed. */
  afterEnding(query: { readonly cancelled: unknown }, send: () => unknown): unknown {
    if (!this.#ending) return send();
    return this.#ending.then(() => (query.cancelled ? undefined : this.afterEnding(query, send)));
  }

  /** Process id from the login of the newest connection. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** Never rejects, or postgres.js would lose a connection for good. Instead, it returns a socket that fails. */
  readonly connect = async (): Promise<Socket> => {
    if (this.#refusal) return failedSocket(this.#refusal);
    try {
      return await this.#connect();
    } catch (error) {
      this.#failed(error as Error);
      return failedSocket(error as Error);
    }
  };

  /** Opens no more connections. Waiting queries fail with `error`, by default one for which `isUnsent` is true. */
  retire(error?: Error): void {
    this.#refusal ??= error ?? networkError('CONNECTION_RETIRED', 'Not sent.');
  }

  get isRetired(): boolean {
    return this.#refusal !== undefined;
  }

  /** Returns the server's reason for a CONNECTION_CLOSED error while the connection closes; otherwise `error`. */
  reasonOf(error: unknown): unknown {
    const isClosed = (error as { code?: unknown } | undefined)?.code === 'CONNECTION_CLOSED';
    return (isClosed && this.#closing) || error;
  }

  /** Opens no more connections, and aborts those still open after `goodbyeMs`. Call it after `sql.end`. */
  close(): void {
    this.#refusal = closedError();
    setTimeout(() => this.abort(), goodbyeMs).unref();
  }

  /** Closes the sockets immediately, without a Terminate message. */
  abort(error: Error = closedError()): void {
    this.#refusal = error;
    for (const socket of this.#open.keys()) socket.destroy(this.#refusal);
  }

  async #connect(): Promise<Socket> {
    const { timeoutMs, pick, prepare, onRefused, pace, encryption, requireAuth } = this.#options;
    const mostMs = timeoutMs > 0 ? timeoutMs : Number.POSITIVE_INFINITY;
    const waitedMs = (await pace?.wait(Math.min(1_000, mostMs / 4))) ?? 0;
    if (this.#refusal) throw this.#refusal;
    const host = await pick();
    let limit: Limit | undefined;
    let socket: Socket | undefined;
    try {
      await prepare?.(host);
      if (this.#refusal) throw this.#refusal;
      limit = new Limit(timeoutMs - waitedMs, host);
      socket = this.#track(new Socket().setNoDelay(true), host);
      await limit.for(open(socket, host));
      if (encryption && !isLocal(host)) {
        const plain = socket;
        socket = this.#track(await limit.for(encrypt(plain, host.host, encryption)), host);
        if (socket !== plain) this.#silence?.answered(plain);
      }
      if (this.#refusal) throw this.#refusal;
      // postgres.js reads `host` and `port` from the socket for its error messages.
      Object.assign(socket, host);
      if (requireAuth) guardLogin(socket, requireAuth);
      return this.#watch(socket, limit, host);
    } catch (error) {
      limit?.clear();
      socket?.destroy();
      onRefused?.(host);
      throw error;
    }
  }

  readonly #track = <S extends Socket>(socket: S, host: Host): S => {
    this.#open.set(socket, { host, end: (error) => socket.destroy(error) });
    this.#silence?.sent(socket, host);
    // Other code handles the error: this only prevents a crash, because error events need a listener.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#silence?.answered(socket);
    });
    return socket;
  };

  /** Adds listeners before postgres.js adds its own, so that postgres.js gets the server's reason for ending. */
  #watch(socket: Socket, limit: Limit, host: Host): Socket {
    let isCancel = false;
    let isClosed = false;
    let reason: Error | undefined;
    const messages = new MessageReader({
      onProcess: (pid) => {
        this.#pid = pid;
      },
      onLogin: () => {
        limit.clear();
        this.#live += 1;
        this.#options.pace?.succeeded();
      },
      onReady: () => this.#silence?.answered(socket),
      onEnd: (error) => fail(error),
    });
    const fail = (error: Error) => {
      reason ??= error;
      if (messages.isLoggedIn && !isClosed) this.#awaitEnd(socket);
      socket.destroy(error);
    };
    limit.onLate(fail);
    socket.on('data', (chunk) => {
      this.#silence?.heard(socket);
      messages.receive(chunk);
    });
    socket.once('end', () => {
      messages.end();
      if (messages.isLoggedIn) fail(networkError('CONNECTION_CLOSED', 'The server closed the connection.'));
      else if (!isCancel) fail(networkError('ECONNRESET', 'The server hung up during the login.'));
    });
    socket.once('error', (error) => {
      reason ??= error;
      if (messages.isLoggedIn) {
        losses.add(error);
        if (!isClosed) this.#awaitEnd(socket);
      }
    });
    hearLastWords(socket);
    this.#open.set(socket, { host, end: fail });
    const { write } = socket;
    socket.write = (...args: unknown[]): boolean => {
      this.#silence?.sent(socket, host);
      return Reflect.apply(write, socket, args);
    };
    socket.once('close', () => {
      isClosed = true;
      limit.clear();
      if (messages.isLoggedIn) this.#live -= 1;
      else if (!isCancel) {
        this.#options.onRefused?.(host);
        this.#failed(reason ?? closedError());
      }
      this.#closing = reason;
      setImmediate(() => {
        if (this.#closing === reason) this.#closing = undefined;
      });
    });
    // Servers do not answer a cancel request.
    onFirstWrite(socket, (bytes) => {
      isCancel = bytes.length === 16 && bytes.readInt32BE(4) === cancelRequest;
    });
    return socket;
  }

  /** Ends all connections to a host, also idle ones: the next query on an idle one would get no answer either. */
  #leave(host: Host): void {
    for (const connection of this.#open.values()) {
      if (connection.host === host) connection.end(replacedError(host));
    }
  }

  #awaitEnd(socket: Socket): void {
    // Wait one more event loop turn after the close: a transaction unaware of the loss would send COMMIT.
    const closed = new Promise((resolve) => socket.once('close', () => setImmediate(resolve)));
    const ending: Promise<unknown> = Promise.all([this.#ending, closed]).then(() => {
      if (this.#ending === ending) this.#ending = undefined;
    });
    this.#ending = ending;
  }

  #failed(error: Error): void {
    if (this.#refusal) return;
    this.#options.pace?.failed();
    if (this.#live === 0) this.onDown(error);
  }
}

const cancelRequest = 80_877_102;

/** A host that is a folder means a Unix socket, on which libpq does not use TLS either. */
const isLocal = ({ host }: Host): boolean => host.startsWith('/');

function open(socket: Socket, { host, port }: Host): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect(isLocal({ host, port }) ? { path: `${host}/.s.PGSQL.${port}` } : { host, port }, () => {
      socket.off('error', reject);
      resolve();
    });
  });
}

/**
 * After the server has closed a connection, a write fails before the server's last message is read, and then the socket
 * stops reading. So delay the write error until the message is read.
 */
function hearLastWords(socket: Socket): void {
  type Done = (error?: Error | null) => void;
  const hold = (done: Done): Done => {
    return (error) => {
      if (!error) return done();
      const end = () => {
        clearTimeout(timer);
        socket.off('end', end).off('close', end);
        done(error);
      };
      const timer = setTimeout(end, lastWordsMs);
      socket.once('end', end).once('close', end);
    };
  };
  const { _write: write, _writev: writev } = socket;
  socket._write = (chunk, encoding, done) => Reflect.apply(write, socket, [chunk, encoding, hold(done)]);
  if (writev) socket._writev = (chunks, done) => Reflect.apply(writev, socket, [chunks, hold(done)]);
}

function onFirstWrite(socket: Socket, look: (bytes: Buffer) => void): void {
  const { write } = socket;
  socket.write = (...args: unknown[]): boolean => {
    socket.write = write;
    look(args[0] as Buffer);
    return Reflect.apply(write, socket, args);
  };
}

/** Timeout of one connection attempt. */
class Limit {
  readonly #late: Promise<never>;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(timeoutMs: number, { host, port }: Host) {
    let reject: (error: Error) => void = () => undefined;
    this.#late = new Promise((_, fail) => {
      reject = fail;
    });
    this.#late.catch(() => undefined);
    const late = () => reject(networkError('CONNECT_TIMEOUT', `${host}:${port} does not accept.`));
    // A longer timer would fire immediately.
    if (timeoutMs > 0 && timeoutMs < 2 ** 31) this.#timer = setTimeout(late, timeoutMs);
  }

  for<Result>(work: Promise<Result> | Result): Promise<Result> {
    return Promise.race([work, this.#late]);
  }

  onLate(act: (error: Error) => void): void {
    this.#late.catch(act);
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}

// The socket fails two event loop turns later: by then, postgres.js has added its listeners and written its first
// message to the corked socket. If that write failed, the connection of postgres.js would never send again.
function failedSocket(error: Error): Socket {
  const socket = new Socket();
  socket.cork();
  setImmediate(() => setImmediate(() => socket.destroy(error)));
  return socket;
}

const replacedError = ({ host, port }: Host) =>
  networkError('CONNECTION_REPLACED', `${host}:${port} is not the primary any more.`);

const closedError = () => networkError('CONNECTION_DESTROYED', 'The pool is closed.');

const networkError = (code: string, message: string) => Object.assign(new Error(message), { code });
