// The file of rejected rows, which can be corrected and imported again.
import { once } from 'node:events';
import { createWriteStream, existsSync, openSync, rmSync, statSync, type WriteStream } from 'node:fs';
import { join, parse } from 'node:path';
import { ConfigurationError } from '../../../src/errors.ts';

/** Waits until the stream can take more. @throws the stream's error, after which `drain` is not emitted. */
export async function drained(stream: WriteStream): Promise<void> {
  if (stream.errored) throw stream.errored;
  await once(stream, 'drain');
}

export interface Rejects {
  readonly path: string;
  readonly stream: WriteStream;
  readonly remove: () => void;
}

/**
 * Creates a file under an unused name, because the rejects of an earlier import may not be corrected yet. If
 * `wanted` is not a regular file, such as a pipe, appends to it.
 * @throws ConfigurationError if the file cannot be created.
 */
export function openRejects(wanted: string, header: string | undefined): Rejects {
  const isNew = !existsSync(wanted) || isRegularFile(wanted);
  const { path, fd } = isNew ? createNew(wanted) : { path: wanted, fd: openSync(wanted, 'a') };
  const stream = createWriteStream(path, { fd });
  // Without a listener, an error of the stream would end the process. finished() reports it before the commit.
  stream.on('error', () => undefined);
  if (header !== undefined) stream.write(`${header}\n`);
  const remove = () => {
    stream.destroy();
    if (isNew) rmSync(path, { force: true });
  };
  return { path, stream, remove };
}

export const isRegularFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

function createNew(wanted: string): { path: string; fd: number } {
  const { dir, name, ext } = parse(wanted);
  for (let number = 1; ; number += 1) {
    const path = number === 1 ? wanted : join(dir, `${name}-${number}${ext}`);
    try {
      return { path, fd: openSync(path, 'wx') };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') continue;
      throw new ConfigurationError(
        `The rows that do not fit cannot be kept: ${message}. Nothing was loaded; name another file with --rejects.`,
      );
    }
  }
}
