// Copies old and recent rows while it reads them. A COPY compresses all of its rows or none, so old and recent rows
// need separate COPYs. A connection runs one COPY at a time, so the rows of the other age wait in memory.
import { copyFrom } from '../../driver/copy.ts';
import type { Transaction } from '../../transaction.ts';
import type { CopyBuffer } from '../copy-buffer.ts';
import { copyStatement, createCopyBuffer } from '../rows.ts';

export class CopyByAge {
  readonly #old = createCopyBuffer();
  readonly #recent = createCopyBuffer();
  readonly #compressedBefore: number;
  readonly #mostWaiting: number;

  /**
   * @param compressedBefore Rows before this time, in milliseconds since 1970, are compressed. -Infinity for a server
   * that cannot compress directly.
   * @param mostWaiting Maximum number of 256 kB chunks of one age that wait for the COPY of the other age to end. 64
   * chunks hold about 90,000 rows.
   */
  constructor(compressedBefore: number, mostWaiting = 64) {
    this.#compressedBefore = compressedBefore;
    this.#mostWaiting = mostWaiting;
  }

  /** Returns the buffer for a row with this time, in milliseconds since 1970. */
  bufferFor(time: number): CopyBuffer {
    return time < this.#compressedBefore ? this.#old : this.#recent;
  }

  /** Copies all rows. @param reading Encodes some more rows into the buffers each time it is resumed. */
  async run(transaction: Transaction, reading: AsyncGenerator<void>): Promise<void> {
    const [old, recent] = [this.#old, this.#recent];
    try {
      // Read until a chunk is full, and begin with its age, because the next chunks are likely to have the same age.
      while (old.full.length + recent.full.length === 0 && !(await reading.next()).done) {}
      while (!old.isEmpty || !recent.isEmpty) {
        const isOld = recent.isEmpty || old.full.length > recent.full.length;
        await this.#compress(transaction, isOld ? 'on' : 'off');
        const [own, other] = isOld ? [old, recent] : [recent, old];
        await copyFrom(transaction, copyStatement, this.#chunks(own, other, reading));
      }
      await this.#compress(transaction, 'off');
    } finally {
      await reading.return(undefined);
    }
  }

  /** Yields the chunks of one COPY. Ends when all rows are read, or when too many chunks wait for the other COPY. */
  async *#chunks(
    own: CopyBuffer,
    other: CopyBuffer,
    reading: AsyncGenerator<void>,
  ): AsyncGenerator<Uint8Array> {
    let hasMore = true;
    while (hasMore && other.full.length <= this.#mostWaiting) {
      yield* own.full.splice(0);
      hasMore = !(await reading.next()).done;
    }
    yield* own.full.splice(0);
    yield own.end();
  }

  async #compress(transaction: Transaction, setting: 'on' | 'off'): Promise<void> {
    if (!Number.isFinite(this.#compressedBefore)) return;
    await transaction.query("SELECT set_config('timescaledb.enable_direct_compress_copy', $1, true)", [
      setting,
    ]);
  }
}
