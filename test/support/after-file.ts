// What a test file leaves to be cleared away after it. Files of one worker share their modules, so that a support
// module's own afterAll would belong to the first file alone: setup.ts registers one for each.
type Cleanup = () => unknown;

const cleanups: Cleanup[] = [];

/** Runs after the file, the last one first: a database after the pools on it. */
export function afterFile(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

/** Runs after all of those: roles go once no database of the file holds them. */
export function afterAllElse(cleanup: Cleanup): void {
  cleanups.unshift(cleanup);
}

export async function clearAway(): Promise<void> {
  const failures: unknown[] = [];
  for (const cleanup of cleanups.splice(0).reverse()) {
    await Promise.resolve(cleanup()).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0)
    throw new AggregateError(
      failures,
      `What a test file left could not be cleared away: ${failures.map(String).join('; ')}`,
    );
}
