// Whose turn it is on a database: first come, first served, and held for a whole transaction.

export class WaitedTooLong extends Error {
  override readonly name = 'WaitedTooLong';
}

export class WaitCancelled extends Error {
  override readonly name = 'WaitCancelled';
}

interface Waiter<Who> {
  who: Who;
  start: () => void;
  refuse: (error: Error) => void;
}

export class Turns<Who> {
  #holder: Who | undefined;
  #since = new Date();
  #waiting: Waiter<Who>[] = [];

  get holder(): Who | undefined {
    return this.#holder;
  }

  get since(): Date {
    return this.#since;
  }

  /** @throws WaitedTooLong after `milliseconds`, WaitCancelled through `cancel`. */
  take(who: Who, milliseconds: number): Promise<void> {
    if (this.#holder === who) return Promise.resolve();
    if (this.#holder === undefined) {
      this.#start(who);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#refuse(who, new WaitedTooLong()), milliseconds);
      this.#waiting.push({
        who,
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

  give(who: Who): void {
    if (this.#holder !== who) return;
    this.#holder = undefined;
    const next = this.#waiting.shift();
    if (!next) return;
    this.#start(next.who);
    next.start();
  }

  /** Leaves the queue; true when it stood there. */
  cancel(who: Who): boolean {
    return this.#refuse(who, new WaitCancelled());
  }

  #start(who: Who): void {
    this.#holder = who;
    this.#since = new Date();
  }

  #refuse(who: Who, error: Error): boolean {
    const index = this.#waiting.findIndex((waiter) => waiter.who === who);
    if (index === -1) return false;
    const [waiter] = this.#waiting.splice(index, 1);
    waiter?.refuse(error);
    return true;
  }
}
