// COPY … FROM STDIN inside of a transaction, with backpressure and with its errors.
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type { Transaction } from '../transaction.ts';
import type { RunningQuery } from './query.ts';

/**
 * Sends chunks to one COPY statement; the statement ends with the last one. Memory stays flat: the
 * next chunk is asked for when the server takes it.
 * @throws the server's error, after which the transaction is aborted as after any failed statement;
 * what `chunks` throws, after the server has undone the COPY.
 */
export async function copyFrom(
  transaction: Transaction,
  statement: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const query = transaction.sql.unsafe(statement);
  const failure = watchFailure(query as unknown as RunningQuery);
  const stream = await query.writable();
  stream.on('error', () => undefined);
  // A stream that breaks knows only that the connection did; the query then fails with what the server said.
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

// postgres.js resolves the query when the COPY begins, and its stream says nothing of an error that
// comes after the last chunk: only the query's own reject hears of it.
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

/** Makes the server undo the COPY, waits until it has, and throws what led to it. */
async function abort(stream: Writable, error: unknown, failure: Promise<never>): Promise<never> {
  stream.destroy(error instanceof Error ? error : new Error(String(error)));
  await failure.catch(() => undefined);
  throw error;
}
