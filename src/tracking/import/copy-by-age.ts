// Copies rows of two ages while they are being read. One COPY compresses either all of its rows or none, so that
// rows of old and of recent days need separate ones, and a connection runs one at a time.
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
   * @param compressedBefore Older rows are compressed. -Infinity for a server that cannot compress directly.
   * @param mostWaiting Chunks of 256 kB of one age that may wait for the COPY of the other age to end. 64 are about
   * 90,000 rows.
   */
  constructor(compressedBefore: number, mostWaiting = 64) {
    this.#compressedBefore = compressedBefore;
    this.#mostWaiting = mostWaiting;
  }

  /** The buffer for a row of this time, in milliseconds since 1970. */
  bufferFor(time: number): CopyBuffer {
    return time < this.#compressedBefore ? this.#old : this.#recent;
  }

  /** Copies all rows. @param reading Encodes some more rows into the buffers each time it is resumed. */
  async run(transaction: Transaction, reading: AsyncGenerator<void>): Promise<void> {
    const [old, recent] = [this.#old, this.#recent];
    try {
      // Before the first COPY, because the age of the first chunk is likely to be that of the next ones.
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

  /** The chunks of one COPY, which ends when all is read or too much waits for the other one. */
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
