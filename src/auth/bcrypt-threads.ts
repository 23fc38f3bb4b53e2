// bcrypt in threads of its own: a third of a second of arithmetic must not hold up the event loop.
// A pool of threads as a library would be a dependency for one function.
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

const require = createRequire(import.meta.url);

interface Job {
  password: string;
  /** What bcrypt reads as one: the cost for a new salt, or the first 29 characters of a hash. */
  salt: number | string;
  resolve: (hash: string) => void;
  reject: (error: Error) => void;
}

/** One core stays with the event loop; more than four threads would only crowd out the application. */
const maxThreads = Math.min(4, Math.max(1, availableParallelism() - 1));

const waiting: Job[] = [];
const idle: Thread[] = [];
let threads = 0;

/** Hashes in a thread, first come first served. Idle threads do not keep the process alive. */
export function bcryptHash(password: string, salt: number | string): Promise<string> {
  return new Promise((resolve, reject) => {
    waiting.push({ password, salt, resolve, reject });
    startNext();
  });
}

function startNext(): void {
  if (waiting.length === 0) return;
  const thread = idle.pop() ?? (threads < maxThreads ? new Thread() : undefined);
  const job = thread && waiting.shift();
  if (job) thread.run(job);
}

class Thread {
  readonly #worker = startWorker();
  #job: Job | undefined;

  constructor() {
    threads += 1;
    this.#worker.on('message', (hash: string) => {
      const job = this.#job;
      this.#job = undefined;
      this.#worker.unref();
      idle.push(this);
      job?.resolve(hash);
      startNext();
    });
    this.#worker.on('error', (error) => this.#job?.reject(error));
    this.#worker.on('exit', () => {
      threads -= 1;
      if (idle.includes(this)) idle.splice(idle.indexOf(this), 1);
      this.#job?.reject(new Error('The thread that ran bcrypt ended.'));
      startNext();
    });
  }

  run(job: Job): void {
    this.#job = job;
    this.#worker.ref();
    this.#worker.postMessage({ password: job.password, salt: job.salt });
  }
}

// As text, so that it starts from TypeScript sources, from the build and from a bundle alike.
function startWorker(): Worker {
  return new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const { hashSync } = require(workerData);
     parentPort.on('message', ({ password, salt }) => parentPort.postMessage(hashSync(password, salt)));`,
    { eval: true, workerData: require.resolve('bcryptjs'), execArgv: [] },
  );
}
