// Ends connections whose server owes an answer while another host of the URL has become the primary.
// Such a server may be stopped, cut off, or an old primary whose commits wait for a standby that has left it. TCP does
// not show it: the kernel of a stopped server acknowledges, and of a lost one the connection lasts 15 minutes.
import type { Socket } from 'node:net';
import type { Host } from './database-url.ts';

/** Milliseconds without a byte from the server before the other hosts are asked. */
const silentMs = 1_000;
/** A statement that has run for long is asked about less often: at a thirtieth of its time, at most this. */
const longestPauseMs = 10_000;

interface Waiting {
  readonly host: Host;
  /** Ends the connection. */
  readonly end: () => void;
  /** performance.now() of the request, or of the last bytes of its answer. */
  since: number;
}

export class SilenceWatch {
  readonly #isReplaced: (host: Host) => Promise<boolean>;
  readonly #waiting = new Map<Socket, Waiting>();
  #timer: NodeJS.Timeout | undefined;
  #isAsking = false;

  /** @param isReplaced must not reject. */
  constructor(isReplaced: (host: Host) => Promise<boolean>) {
    this.#isReplaced = isReplaced;
  }

  /** Call it when a request is sent, and at the start of a connection. */
  sent(socket: Socket, host: Host, end: () => void): void {
    if (!this.#waiting.has(socket)) this.#waiting.set(socket, { host, end, since: performance.now() });
    if (!this.#isAsking) this.#timer ??= setTimeout(() => void this.#look(), silentMs).unref();
  }

  /** Call it when bytes arrive. */
  heard(socket: Socket): void {
    const waiting = this.#waiting.get(socket);
    if (waiting) waiting.since = performance.now();
  }

  /** Call it when the server is ready for the next request, and when the connection is closed. */
  answered(socket: Socket): void {
    this.#waiting.delete(socket);
  }

  async #look(): Promise<void> {
    this.#timer = undefined;
    this.#isAsking = true;
    const now = performance.now();
    const silent = [...this.#waiting.values()].filter(({ since }) => now - since >= silentMs);
    for (const host of new Set(silent.map((waiting) => waiting.host))) {
      if (!(await this.#isReplaced(host))) continue;
      for (const waiting of this.#waiting.values()) if (waiting.host === host) waiting.end();
    }
    this.#isAsking = false;
    if (this.#waiting.size === 0) return;
    const shortest = Math.min(...[...this.#waiting.values()].map(({ since }) => performance.now() - since));
    const pauseMs = Math.min(Math.max(silentMs, shortest / 30), longestPauseMs);
    this.#timer = setTimeout(() => void this.#look(), pauseMs).unref();
  }
}
