// Runs COPY … FROM STDIN in a transaction, with backpressure and error reporting.
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type { Transaction } from '../transaction.ts';
import type { RunningQuery } from './query.ts';

/**
 * Runs one COPY statement and sends it the chunks. Memory use stays constant: each chunk is requested only when the
 * stream can accept it.
 * @throws the server's error; or the error of `chunks`, after the server has undone the COPY. Both abort the
 * transaction.
 */
export async function copyFrom(
  transaction: Transaction,
  statement: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const query = transaction.sql.unsafe(statement);
  const failure = watchFailure(query as unknown as RunningQuery);
  Object.assign(query, { endsItself: true });
  const stream = await query.writable();
  // A broken stream reports only that the connection broke; `failure` has the server's error.
  const until = (event: string) => once(stream, event).catch(() => failure);
  try {
    for await (const chunk of chunks) {
      if (!stream.write(chunk)) await Promise.race([until('drain'), failure]);
    }
  } catch (error) {
    await abort(stream, error, failure);
  }
  stream.end();
  await Promise.race([until('finish'), failure]);
}

// postgres.js resolves the query when the COPY begins. The stream does not report an error that comes after the last
// chunk: only the query's `reject` receives that error.
function watchFailure(query: Pick<RunningQuery, 'reject'>): Promise<never> {
  const { reject } = query;
  const failure = new Promise<never>((_, fail) => {
    query.reject = (error) => {
      reject(error);
      fail(error);
    };
  });
  failure.catch(() => undefined);
  return failure;
}

/** Makes the server undo the COPY, waits until the query has failed, and throws the original error. */
async function abort(stream: Writable, error: unknown, failure: Promise<never>): Promise<never> {
  stream.destroy(error instanceof Error ? error : new Error(String(error)));
  await failure.catch(() => undefined);
  throw error;
}
