// Listens for SIGTERM, SIGINT and SIGHUP, so that work can clean up before the process ends.

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
