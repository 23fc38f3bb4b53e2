// A queue of a client's messages, read one by one or in the batches that the backend receives together.
import type { Message } from './messages.ts';

export class MessageQueue {
  #messages: Message[] = [];
  #closed = false;
  #wake: (() => void) | undefined;
  #queuedBytes = 0;
  readonly #onQueuedBytes: (bytes: number) => void;

  /** `onQueuedBytes` receives the number of queued bytes, so that the connection can pause its socket. */
  constructor(onQueuedBytes: (bytes: number) => void) {
    this.#onQueuedBytes = onQueuedBytes;
  }

  push(messages: Message[]): void {
    if (this.#closed || messages.length === 0) return;
    this.#messages.push(...messages);
    for (const message of messages) this.#queuedBytes += message.bytes.length;
    this.#onQueuedBytes(this.#queuedBytes);
    this.#wake?.();
  }

  close(): void {
    this.#closed = true;
    this.#messages = [];
    this.#wake?.();
  }

  /** Waits for the next message. Returns undefined if the client has disconnected or sent Terminate. */
  async next(): Promise<Message | undefined> {
    while (this.#messages.length === 0) {
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages.shift();
    this.#queuedBytes -= message?.bytes.length ?? 0;
    this.#onQueuedBytes(this.#queuedBytes);
    return message?.type === 'X' ? undefined : message;
  }

  /** Waits for messages up to the next one that the server must answer, or up to an Execute that may start a COPY. */
  async nextBatch(mayCopy: (batch: Message[]) => boolean): Promise<Message[] | undefined> {
    const batch: Message[] = [];
    for (;;) {
      const message = await this.next();
      if (!message) return undefined;
      const { type } = message;
      if (type === 'd' || type === 'c' || type === 'f') {
        // Left over from a COPY that failed, or sent before the COPY has started.
        if (batch.length === 0) continue;
        this.#messages.unshift(message);
        this.#queuedBytes += message.bytes.length;
        return batch;
      }
      batch.push(message);
      if (type === 'S' || type === 'Q' || type === 'H' || type === 'F') return batch;
      if (type === 'E' && mayCopy(batch)) return batch;
    }
  }
}
