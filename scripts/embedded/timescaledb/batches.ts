// Cuts a client's messages into batches: what the backend gets in one go.
import type { Inbox } from './inbox.ts';
import type { Message } from './messages.ts';
import type { PreparedStatements } from './statements.ts';

export class Batches {
  readonly #inbox: Inbox;
  readonly #statements: PreparedStatements;

  constructor(inbox: Inbox, statements: PreparedStatements) {
    this.#inbox = inbox;
    this.#statements = statements;
  }

  /** Messages up to the next point where a server answers. */
  async next(): Promise<Message[] | undefined> {
    const batch: Message[] = [];
    for (;;) {
      const message = await this.#inbox.next();
      if (!message) return undefined;
      const { type } = message;
      if (type === 'd' || type === 'c' || type === 'f') {
        // Left over from a COPY that failed, or sent ahead to one that has yet to begin.
        if (batch.length === 0) continue;
        this.#inbox.putBack(message);
        return batch;
      }
      batch.push(message);
      if (type === 'S' || type === 'Q' || type === 'H' || type === 'F') return batch;
      if (type === 'E' && this.copies(batch)) return batch;
    }
  }

  /** A COPY FROM STDIN may be among these. */
  copies(batch: Message[]): boolean {
    return (
      batch.some(mentionsStdin) || (batch.some(({ type }) => type === 'E') && this.#statements.mayCopy())
    );
  }
}

function mentionsStdin({ type, bytes }: Message): boolean {
  return (type === 'P' || type === 'Q') && /std(?:in|out)/i.test(bytes.toString('latin1'));
}
