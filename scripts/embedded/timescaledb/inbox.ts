// A client's messages in order, waited for one by one.
import type { Message } from './messages.ts';

export class Inbox {
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

  /** Makes a message the next one again. */
  putBack(message: Message): void {
    this.#messages.unshift(message);
    this.#bytes += message.bytes.length;
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
}
