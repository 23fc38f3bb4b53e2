// Copy-in mode: the client's CopyData messages up to CopyDone or CopyFail.
import type { Inbox } from './inbox.ts';
import { type Fields, readText } from './messages.ts';

/** All of one COPY is held in memory until CopyDone, because the backend reads it in one go. */
const mostCopyData = 1024 * 1024 * 1024;

/** undefined: the client went away. */
export async function collectCopyData(
  inbox: Inbox,
): Promise<{ chunks: Buffer[] } | { failure: Fields } | undefined> {
  let chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const message = await inbox.next();
    if (!message) return undefined;
    const { type, bytes } = message;
    if (type === 'd') {
      size += bytes.length - 5;
      if (size <= mostCopyData) chunks.push(bytes.subarray(5));
      else chunks = [];
    } else if (type === 'c') {
      return size <= mostCopyData ? { chunks } : { failure: failure('54000', tooMuch) };
    } else if (type === 'f') {
      return { failure: failure('57014', `COPY from stdin failed: ${readText(bytes, 5).value}`) };
    } else if (type !== 'H' && type !== 'S') {
      const hex = type.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0');
      return { failure: failure('08P01', `unexpected message type 0x${hex} during COPY from stdin`) };
    }
  }
}

const tooMuch = 'the embedded server takes at most 1 GB in one COPY: send it in several';

function failure(code: string, message: string): Fields {
  return { severity: 'ERROR', code, message };
}
