// The messages between the server and the worker thread of an instance.

/** The device from which COPY FROM STDIN reads, because PGlite cannot read the data from the protocol. */
export const copyDevice = '/dev/copy-in';

export interface WorkerInput {
  dataFolder: string;
  database: string;
  /** A WebAssembly.Module. */
  wasmModule: object;
  copyDevice: string;
}

export type WorkerRequest =
  | { kind: 'exec'; messages: Uint8Array; copyData: Uint8Array[] | undefined }
  | { kind: 'close' };

/** `done`: the worker has started, or has finished a request. */
export type WorkerReply =
  | { kind: 'output'; bytes: Uint8Array }
  | { kind: 'done' }
  | { kind: 'crashed'; reason: string };
