// Listens for what ends a process, so that work can clean up before: signals, and nobody reading its output any more.

/** What tells a process to end. */
const endingSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Calls `stop` instead of ending the process, until the block ends. */
export function onSignal(stop: (signal: NodeJS.Signals) => void): Disposable {
  for (const signal of endingSignals) process.on(signal, stop);
  return {
    [Symbol.dispose]: () => {
      for (const signal of endingSignals) process.off(signal, stop);
    },
  };
}

/** After `| head`, and after the terminal was closed. */
const closedCodes = new Set(['EPIPE', 'EIO']);

/** Calls `then` instead of ending the process when nobody reads the output any more. */
export function onClosedOutput(then: () => void = () => undefined): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!closedCodes.has(error.code ?? '')) throw error;
      then();
    });
  }
}

/** Aborts at the first signal, or once the output is closed; later ones must not interrupt the clean shutdown. */
export function interruption(): AbortSignal {
  const interrupted = new AbortController();
  const abort = () => interrupted.abort();
  onSignal(abort);
  onClosedOutput(abort);
  return interrupted.signal;
}
