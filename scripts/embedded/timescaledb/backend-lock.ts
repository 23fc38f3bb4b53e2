// The lock of a database's backend, first come, first served. A session owns it for a whole transaction.

export class LockTimeout extends Error {
  override readonly name = 'LockTimeout';
}

export class LockWaitCancelled extends Error {
  override readonly name = 'LockWaitCancelled';
}

interface Waiter<Owner> {
  owner: Owner;
  grant: () => void;
  reject: (error: Error) => void;
}

export class BackendLock<Owner> {
  #owner: Owner | undefined;
  #ownedSince = new Date();
  #waiting: Waiter<Owner>[] = [];

  get owner(): Owner | undefined {
    return this.#owner;
  }

  get ownedSince(): Date {
    return this.#ownedSince;
  }

  /** @throws LockTimeout after `milliseconds`, LockWaitCancelled through `cancelWait`. */
  acquire(owner: Owner, milliseconds: number): Promise<void> {
    if (this.#owner === owner) return Promise.resolve();
    if (this.#owner === undefined) {
      this.#grant(owner);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#reject(owner, new LockTimeout()), milliseconds);
      this.#waiting.push({
        owner,
        grant: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  release(owner: Owner): void {
    if (this.#owner !== owner) return;
    this.#owner = undefined;
    const next = this.#waiting.shift();
    if (!next) return;
    this.#grant(next.owner);
    next.grant();
  }

  /** Removes a waiting request, which fails with LockWaitCancelled. Returns false if there is none. */
  cancelWait(owner: Owner): boolean {
    return this.#reject(owner, new LockWaitCancelled());
  }

  #grant(owner: Owner): void {
    this.#owner = owner;
    this.#ownedSince = new Date();
  }

  #reject(owner: Owner, error: Error): boolean {
    const index = this.#waiting.findIndex((waiter) => waiter.owner === owner);
    if (index === -1) return false;
    const [waiter] = this.#waiting.splice(index, 1);
    waiter?.reject(error);
    return true;
  }
}
