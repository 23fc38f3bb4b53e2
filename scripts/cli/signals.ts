// Handles signals and closed output, so that a process can clean up before it ends.

/** Signals that ask a process to end. */
const endingSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Calls `stop` for each signal, instead of ending the process, until the result is disposed. */
export function onSignal(stop: (signal: NodeJS.Signals) => void): Disposable {
  for (const signal of endingSignals) process.on(signal, stop);
  return {
    [Symbol.dispose]: () => {
      for (const signal of endingSignals) process.off(signal, stop);
    },
  };
}

/** EPIPE: the reader has ended, as in `| head`. EIO: the terminal was closed. */
const closedCodes = new Set(['EPIPE', 'EIO']);

/** Calls `then` instead of ending the process when stdout or stderr was closed. */
export function onClosedOutput(then: () => void = () => undefined): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!closedCodes.has(error.code ?? '')) throw error;
      then();
    });
  }
}

/** Aborts at the first signal or when the output is closed. Later signals do not interrupt the shutdown. */
export function interruption(): AbortSignal {
  const interrupted = new AbortController();
  const abort = () => interrupted.abort();
  onSignal(abort);
  onClosedOutput(abort);
  return interrupted.signal;
}
