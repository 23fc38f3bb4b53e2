// The lock on a database's only backend: sessions get it in the order in which they ask, for a whole transaction.

export class WaitedTooLong extends Error {
  override readonly name = 'WaitedTooLong';
}

export class WaitCancelled extends Error {
  override readonly name = 'WaitCancelled';
}

interface Waiter<Session> {
  session: Session;
  start: () => void;
  refuse: (error: Error) => void;
}

export class BackendLock<Session> {
  #owner: Session | undefined;
  #since = new Date();
  #waiting: Waiter<Session>[] = [];

  get owner(): Session | undefined {
    return this.#owner;
  }

  get since(): Date {
    return this.#since;
  }

  /** @throws WaitedTooLong after `milliseconds`, WaitCancelled through `cancel`. */
  acquire(session: Session, milliseconds: number): Promise<void> {
    if (this.#owner === session) return Promise.resolve();
    if (this.#owner === undefined) {
      this.#start(session);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#refuse(session, new WaitedTooLong()), milliseconds);
      this.#waiting.push({
        session,
        start: () => {
          clearTimeout(timer);
          resolve();
        },
        refuse: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  release(session: Session): void {
    if (this.#owner !== session) return;
    this.#owner = undefined;
    const next = this.#waiting.shift();
    if (!next) return;
    this.#start(next.session);
    next.start();
  }

  /** Leaves the queue; true when it stood there. */
  cancel(session: Session): boolean {
    return this.#refuse(session, new WaitCancelled());
  }

  #start(session: Session): void {
    this.#owner = session;
    this.#since = new Date();
  }

  #refuse(session: Session, error: Error): boolean {
    const index = this.#waiting.findIndex((waiter) => waiter.session === session);
    if (index === -1) return false;
    const [waiter] = this.#waiting.splice(index, 1);
    waiter?.refuse(error);
    return true;
  }
}
