// Runs bcrypt in worker threads: a hash takes about a third of a second and would block the event loop.
// A library for thread pools would be a dependency for one function.
// In a bundle, bcryptjs may not exist as a file. Then it runs in this thread and yields to the event loop every 100 ms.
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { hash } from 'bcryptjs';

interface Job {
  password: string;
  /** The cost, to create a salt; or the first 29 characters of a hash, to use its cost and salt. */
  salt: number | string;
  resolve: (hash: string) => void;
  reject: (error: Error) => void;
}

/** Leaves one core to the event loop, if there are several. At most four threads, to leave cores to other work. */
const maxThreads = Math.min(4, Math.max(1, availableParallelism() - 1));

/** Path of bcryptjs for the workers; undefined if it cannot be found, as in a bundle. */
const bcryptFile = findBcrypt();

const waiting: Job[] = [];
const idle: Thread[] = [];
let threads = 0;

/** Hashes in a worker thread, in the order of the calls. Idle threads do not keep the process alive. */
export function bcryptHash(password: string, salt: number | string): Promise<string> {
  if (bcryptFile === undefined) return hash(password, salt);
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

// The worker's code is text, so that it runs from TypeScript sources, from the build and from a bundle.
function startWorker(): Worker {
  return new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const { hashSync } = require(workerData);
     parentPort.on('message', ({ password, salt }) => parentPort.postMessage(hashSync(password, salt)));`,
    { eval: true, workerData: bcryptFile, execArgv: [] },
  );
}

function findBcrypt(): string | undefined {
  try {
    // A bundle in CommonJS has no import.meta.url.
    return createRequire(import.meta.url).resolve('bcryptjs');
  } catch {
    return undefined;
  }
}
