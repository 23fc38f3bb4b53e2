// The lock of a database's backend, first come, first served. A session owns it for a whole transaction.
import { PostgresError } from './postgres-error.ts';

export class LockTimeout extends Error {
  override readonly name = 'LockTimeout';
}

interface Waiter {
  owner: object;
  settle: (error?: Error) => void;
}

export class BackendLock {
  /** A session, or any other object while the server itself owns the lock. */
  #owner: object | undefined;
  #ownedSince = new Date();
  #waiting: Waiter[] = [];

  get owner(): object | undefined {
    return this.#owner;
  }

  get ownedSince(): Date {
    return this.#ownedSince;
  }

  /** @throws LockTimeout after `milliseconds`, PostgresError 57014 if `cancelWait` is called. */
  acquire(owner: object, milliseconds: number): Promise<void> {
    if (this.#owner === undefined) this.#grant(owner);
    if (this.#owner === owner) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#reject(owner, new LockTimeout()), milliseconds);
      this.#waiting.push({
        owner,
        settle: (error) => {
          clearTimeout(timer);
          if (error) reject(error);
          else resolve();
        },
      });
    });
  }

  release(owner: object): void {
    if (this.#owner !== owner) return;
    this.#owner = undefined;
    const next = this.#waiting.shift();
    if (!next) return;
    this.#grant(next.owner);
    next.settle();
  }

  /** Makes the owner's waiting `acquire` fail. Returns false if there is none. */
  cancelWait(owner: object): boolean {
    return this.#reject(owner, new PostgresError('57014', 'canceling statement due to user request'));
  }

  #grant(owner: object): void {
    this.#owner = owner;
    this.#ownedSince = new Date();
  }

  #reject(owner: object, error: Error): boolean {
    const index = this.#waiting.findIndex((waiter) => waiter.owner === owner);
    if (index === -1) return false;
    const [waiter] = this.#waiting.splice(index, 1);
    waiter?.settle(error);
    return true;
  }
}
