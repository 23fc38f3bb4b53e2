// The sockets of a client's connections: opened to the right host, given up in time, all closed with the client.
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseUrl } from './database-url.ts';
import { guardLogin } from './login-guard.ts';
import { MessageReader } from './server-messages.ts';
import { type Encryption, encrypt } from './tls.ts';

export type Host = DatabaseUrl['hosts'][number];

export interface SocketOptions {
  /** Most milliseconds until a host has accepted the login, TLS included; 0 is without limit. */
  readonly timeoutMs: number;
  /** Undefined: without TLS. Never over a socket of the file system, as for libpq. */
  readonly encryption?: Encryption | undefined;
  /** `require_auth`: the ways to log in that the client accepts. */
  readonly requireAuth?: string | undefined;
  /** Which host the next connection goes to; told when one did not accept. */
  readonly pick: () => Promise<Host> | Host;
  readonly onRefused?: (host: Host) => void;
  /** What must be known of the host before anybody logs in: asked on a connection with a limit of its own. */
  readonly prepare?: (host: Host) => Promise<void>;
  /** Paces attempts that fail. */
  readonly pace?: Pace;
}

/** How long postgres.js may take to send Terminate on a connection, in milliseconds. */
const goodbyeMs = 1_000;

/** How long after a failed write the server's last words may take, in milliseconds. They are there already. */
const lastWordsMs = 200;

/** Errors by which a connection ended, of the server or of the network; not those of a login. */
const losses = new WeakSet<object>();

const neverConnected = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENOENT'];

/** Whether a connection is lost by this error. Network errors have no SQLSTATE; a login that fails loses nothing. */
export function meansLoss(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  if (losses.has(error)) return true;
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (typeof code !== 'string' || severity !== undefined || isUnsent(error) || neverConnected.includes(code))
    return false;
  return /^(CONNECTION_|E[A-Z]+$)/.test(code);
}

/** Marks a query that waited for a connection which its client did not open any more: it was never sent. */
export const isUnsent = (error: unknown): boolean =>
  (error as { code?: unknown }).code === 'CONNECTION_RETIRED';

/** Whether no server ran the query: it was unsent, or met a session that the server had just ended for being idle. */
export const hasNotRun = (error: unknown): boolean =>
  isUnsent(error) || (error as { code?: unknown }).code === '57P05';

/** Lets attempts that fail wait for longer and longer, over all clients of a pool. */
export class Pace {
  #failures = 0;
  #failedAt = 0;

  /** @returns milliseconds. */
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
 * Not postgres.js's own: it offers no `noDelay`, without which the end of each COPY waits 40 ms for a
 * delayed acknowledgement, leaves sockets open that a silent server never closes, and connects again without
 * pause or end where a server hangs up during the login. It takes sockets of ours, though.
 */
export class Sockets {
  readonly #options: SocketOptions;
  readonly #open = new Set<Socket>();
  /** Why no connection is opened any more. */
  #refusal: Error | undefined;
  #live = 0;
  #closing: Error | undefined;
  #ending: Promise<unknown> | undefined;
  #pid: number | undefined;
  /** Called when a login failed while no connection is open: what waits for one would wait for ever. */
  onDown: (error: Error) => void = () => undefined;

  constructor(options: SocketOptions) {
    this.#options = options;
  }

  /**
   * While a connection has failed and is not closed yet: resolves when none is. postgres.js would send to it, get no
   * answer, and never send anything on the connection that takes its place.
   */
  get ending(): Promise<unknown> | undefined {
    return this.#ending;
  }

  /** Sends a query, though not to a connection that has failed. */
  afterEnding(query: { readonly cancelled: unknown }, send: () => unknown): unknown {
    if (!this.#ending) return send();
    return this.#ending.then(() => (query.cancelled ? undefined : this.afterEnding(query, send)));
  }

  /** The process that the newest connection's server named at the login. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** Never rejects, which would cost postgres.js a connection for good: the socket fails instead. */
  readonly connect = async (): Promise<Socket> => {
    if (this.#refusal) return failedSocket(this.#refusal);
    try {
      return await this.#connect();
    } catch (error) {
      this.#failed(error as Error);
      return failedSocket(error as Error);
    }
  };

  /**
   * Opens no connection any more. What waits for one gets `error`; without it, an error that `isUnsent`.
   */
  retire(error?: Error): void {
    this.#refusal ??= error ?? networkError('CONNECTION_RETIRED', 'Not sent.');
  }

  get isRetired(): boolean {
    return this.#refusal !== undefined;
  }

  /** While connections close: what the server said about the end of the one that `error` is about. */
  reasonOf(error: unknown): unknown {
    const isClosed = (error as { code?: unknown } | undefined)?.code === 'CONNECTION_CLOSED';
    return (isClosed && this.#closing) || error;
  }

  /** Call it when no query may run any more. */
  close(): void {
    this.#refusal = closedError();
    setTimeout(() => this.abort(), goodbyeMs).unref();
  }

  /** Closes them at once, without a Terminate message. */
  abort(): void {
    this.#refusal = closedError();
    for (const socket of this.#open) socket.destroy(this.#refusal);
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
      socket = this.#track(new Socket().setNoDelay(true));
      await limit.for(open(socket, host));
      if (encryption && !isLocal(host)) {
        socket = this.#track(await limit.for(encrypt(socket, host.host, encryption)));
      }
      if (this.#refusal) throw this.#refusal;
      // What postgres.js sets on its own, for its messages.
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

  readonly #track = <S extends Socket>(socket: S): S => {
    this.#open.add(socket);
    // Code that waits for the socket gets the error too. An error event without a listener would end the process.
    socket.on('error', () => undefined);
    socket.once('close', () => this.#open.delete(socket));
    return socket;
  };

  /** Its listeners come before those of postgres.js, which then hears of the end what the server said. */
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
      onEnd: (error) => fail(error),
    });
    const fail = (error: Error) => {
      reason ??= error;
      if (messages.isLoggedIn && !isClosed) this.#awaitEnd(socket);
      socket.destroy(error);
    };
    limit.onLate(fail);
    socket.on('data', (chunk) => messages.receive(chunk));
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
    // To a cancel request no server answers.
    onFirstWrite(socket, (bytes) => {
      isCancel = bytes.length === 16 && bytes.readInt32BE(4) === cancelRequest;
    });
    return socket;
  }

  #awaitEnd(socket: Socket): void {
    // A turn later everybody who used it has heard: a transaction that still looked open would send COMMIT.
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

/** A host that is a folder means a Unix socket, on which libpq uses no SSL either. */
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
 * A write fails first when the server has closed the connection, though it said why. A socket whose write has
 * failed reads nothing any more: so the failure is held back until that was read.
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

/** The time that a connection may take. */
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
    // Beyond what a timer holds it would fire at once.
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

// Two turns later the listeners of postgres.js are there and its first message is in the cork: one that
// it could not send would keep its connection from ever sending again.
function failedSocket(error: Error): Socket {
  const socket = new Socket();
  socket.cork();
  setImmediate(() => setImmediate(() => socket.destroy(error)));
  return socket;
}

const closedError = () => networkError('CONNECTION_DESTROYED', 'The pool is closed.');

const networkError = (code: string, message: string) => Object.assign(new Error(message), { code });
