// A client's messages in order, waited for one by one or in batches: what the backend gets in one go.
import type { Message } from './messages.ts';

export class MessageQueue {
  #messages: Message[] = [];
  #closed = false;
  #wake: (() => void) | undefined;
  #bytes = 0;
  readonly #onLoad: (bytes: number) => void;

  /** `onLoad` hears how many bytes wait, so that a socket can pause while nobody reads. */
  constructor(onLoad: (bytes: number) => void) {
    this.#onLoad = onLoad;
  }

  push(messages: Message[]): void {
    if (this.#closed || messages.length === 0) return;
    this.#messages.push(...messages);
    for (const message of messages) this.#bytes += message.bytes.length;
    this.#onLoad(this.#bytes);
    this.#wake?.();
  }

  close(): void {
    this.#closed = true;
    this.#messages = [];
    this.#wake?.();
  }

  /** undefined: the client is gone, or said that it goes. */
  async next(): Promise<Message | undefined> {
    while (this.#messages.length === 0) {
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages.shift();
    this.#bytes -= message?.bytes.length ?? 0;
    this.#onLoad(this.#bytes);
    return message?.type === 'X' ? undefined : message;
  }

  /** Messages up to the next point where a server answers. `mayCopy` says whether some of them may begin a COPY. */
  async nextBatch(mayCopy: (batch: Message[]) => boolean): Promise<Message[] | undefined> {
    const batch: Message[] = [];
    for (;;) {
      const message = await this.next();
      if (!message) return undefined;
      const { type } = message;
      if (type === 'd' || type === 'c' || type === 'f') {
        // Left over from a COPY that failed, or sent ahead to one that has yet to begin.
        if (batch.length === 0) continue;
        this.#messages.unshift(message);
        this.#bytes += message.bytes.length;
        return batch;
      }
      batch.push(message);
      if (type === 'S' || type === 'Q' || type === 'H' || type === 'F') return batch;
      if (type === 'E' && mayCopy(batch)) return batch;
    }
  }
}
