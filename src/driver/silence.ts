// Leaves a server that owes an answer, if another host of the URL has become the primary.
// Such a server may be stopped, cut off, or an old primary whose commits wait for a standby that has left it. TCP does
// not show this: the kernel of a stopped server acknowledges data, and a request lost in the network fails only after
// 15 minutes.
import type { Socket } from 'node:net';
import type { Host } from './database-url.ts';

/** Milliseconds without a byte from the server before the other hosts are asked. */
const silentMs = 1_000;
/** Longest pause between two questions. Each pause is a thirtieth of the silence so far, but at least `silentMs`. */
const longestPauseMs = 10_000;

interface Waiting {
  readonly host: Host;
  /** Times of performance.now(). `since`: when the request was sent or the last bytes arrived. `askAt`: when to ask. */
  since: number;
  askAt: number;
}

export class SilenceWatch {
  readonly #isReplaced: (host: Host) => Promise<boolean>;
  readonly #leave: (host: Host) => void;
  readonly #waiting = new Map<Socket, Waiting>();
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;
  #isAsking = false;

  /**
   * @param isReplaced must not reject.
   * @param leave must end all connections to the host, because `answered` forgets a connection even if it still owes
   * the answer to a second query.
   */
  constructor(isReplaced: (host: Host) => Promise<boolean>, leave: (host: Host) => void) {
    this.#isReplaced = isReplaced;
    this.#leave = leave;
  }

  /** Call it when a request is sent, and at the start of a connection. */
  sent(socket: Socket, host: Host): void {
    if (this.#waiting.has(socket)) return;
    const since = performance.now();
    this.#waiting.set(socket, { host, since, askAt: since + silentMs });
    this.#wakeAt(since + silentMs);
  }

  /** Call it when bytes arrive. */
  heard(socket: Socket): void {
    const waiting = this.#waiting.get(socket);
    if (!waiting) return;
    waiting.since = performance.now();
    waiting.askAt = waiting.since + silentMs;
  }

  /** Call it when the server is ready for the next request, and when the connection is closed. */
  answered(socket: Socket): void {
    this.#waiting.delete(socket);
  }

  #wakeAt(moment: number): void {
    if (this.#isAsking || this.#wakesAt <= moment) return;
    clearTimeout(this.#timer);
    this.#wakesAt = moment;
    this.#timer = setTimeout(() => void this.#look(), moment - performance.now()).unref();
  }

  async #look(): Promise<void> {
    this.#isAsking = true;
    const now = performance.now();
    const due = [...this.#waiting.values()].filter(({ askAt }) => askAt <= now);
    for (const host of new Set(due.map((waiting) => waiting.host))) {
      if (await this.#isReplaced(host)) this.#leave(host);
    }
    for (const waiting of due) {
      const silence = performance.now() - waiting.since;
      waiting.askAt = performance.now() + Math.min(Math.max(silentMs, silence / 30), longestPauseMs);
    }
    this.#isAsking = false;
    this.#wakesAt = Number.POSITIVE_INFINITY;
    if (this.#waiting.size === 0) return;
    this.#wakeAt(Math.min(...[...this.#waiting.values()].map(({ askAt }) => askAt)));
  }
}
