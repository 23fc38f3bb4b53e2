// The error of an attempt that should fail, to be looked at more than once.

/** What it rejected with, or nothing where it resolved. */
export const failure = (attempt: Promise<unknown>): Promise<unknown> =>
  attempt.then(
    () => undefined,
    (error: unknown) => error,
  );
