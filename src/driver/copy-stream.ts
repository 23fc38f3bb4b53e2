// Controls the stream of a COPY from its start to its end.
import { Readable, type Writable } from 'node:stream';

/** A Readable for COPY TO, a Writable for COPY FROM. */
export type CopyStream = Readable | Writable;

/**
 * Call it when postgres.js has created the stream. The returned function ends the stream: call it when the query has
 * settled a second time, at the end of the COPY.
 */
export function prepareCopy(stream: CopyStream): (error?: unknown) => void {
  return stream instanceof Readable ? prepareReadable(stream) : prepareWritable(stream);
}

/**
 * postgres.js stops reading the connection while the stream is full, and does not resume if nobody reads the stream. It
 * ends the stream after the last row, though the server may still report an error.
 */
function prepareReadable(stream: Readable): (error?: unknown) => void {
  const push = stream.push.bind(stream);
  const resume = () => {
    try {
      stream._read(0);
    } catch {
      // postgres.js has no socket any more.
    }
  };
  stream.push = (chunk) => chunk === null || push(chunk);
  stream.once('close', () => {
    stream.push = () => true;
    resume();
  });
  return (error) => {
    resume();
    // From here on, the connection serves other queries.
    stream._read = () => undefined;
    if (error === undefined) push(null);
    else stream.destroy(error as Error);
  };
}

/** postgres.js does not report an error after the last chunk, and sends CopyFail even after the COPY has ended. */
function prepareWritable(stream: Writable): (error?: unknown) => void {
  return (error) => {
    stream._destroy = (reason, done) => done(reason);
    if (error !== undefined) stream.destroy(error as Error);
  };
}
