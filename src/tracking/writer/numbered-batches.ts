// Writes batches exactly once: the transaction that stores a batch also advances a number in location_writers.
import { randomUUID } from 'node:crypto';
import { copyFrom } from '../../driver/copy.ts';
import type { Pool } from '../../pool.ts';
import { withTransaction } from '../../transaction.ts';
import type { LocationInput } from '../columns.ts';
import { rowsForCopy, takesCopy } from '../record.ts';
import { arraysOf, columnNames, copyStatement, encodeCopy, unnestLocations } from '../rows.ts';

export class NumberedBatches {
  readonly #db: Pool;
  /** The id of the row in location_writers. */
  readonly #id = randomUUID();
  /** An SQL comment in the statements of each attempt. `#settle` uses it to find the attempt's session. */
  readonly #mark = `/* writer ${this.#id} */`;
  #isRegistered = false;
  /** The last number that was used: its batch was committed or skipped. */
  #last = 0;
  #copies: boolean | undefined;
  /** Whether an attempt at the next number ended without an answer. The attempt may be committed or still running. */
  #isUnsettled = false;

  constructor(db: Pool) {
    this.#db = db;
  }

  /** Returns the number of the next batch. All attempts at a batch use the same number. */
  next(): number {
    return this.#last + 1;
  }

  /**
   * Stores the batch, unless the number of the row shows that an earlier attempt has stored it.
   * @returns true, because it throws if the batch is not stored.
   */
  async write(locations: readonly LocationInput[], number: number): Promise<true> {
    await this.#register();
    const isStored =
      (this.#isUnsettled && (await this.#settle(number))) ||
      (await this.#insert(number, locations)) ||
      (await this.#isReached(number)) ||
      (await this.#insertIntoNewRow(number, locations));
    if (isStored) return true;
    const message = 'Another session changed the number of the writer.';
    throw Object.assign(new Error(message), { code: '40001' });
  }

  /** Records that the batch is stored and its number is used. */
  confirm(number: number): void {
    this.#last = number;
    this.#isUnsettled = false;
  }

  /** Records that an attempt had no answer. The next attempt first ends the earlier attempt's session on the server. */
  loseAnswer(): void {
    this.#isUnsettled = true;
  }

  /**
   * Called before the batch is rejected or split. If an attempt had no answer, sets the number of the row to
   * `number` + 1, so that a late attempt stores nothing. The statement may itself run late, after further batches, and
   * hence never decreases the number.
   * @returns whether an attempt has stored the batch. If not, call `confirmSkip`.
   */
  async skip(number: number): Promise<boolean> {
    if (!this.#isUnsettled) return false;
    if (await this.#settle(number)) return true;
    const { rows } = await this.#db.query<{ isStored: boolean }>(
      `${this.#mark} INSERT INTO location_writers AS writer (id, last_batch) VALUES ($1::uuid, $2::bigint + 1)
       ON CONFLICT (id) DO UPDATE SET last_batch =
         CASE WHEN writer.last_batch < $2::bigint THEN excluded.last_batch ELSE writer.last_batch END
       RETURNING last_batch = $2::bigint AS "isStored"`,
      [this.#id, number],
    );
    return rows[0]?.isStored ?? false;
  }

  /** Records that the batch will never be stored. The next batch continues from the number that `skip` set, if any. */
  confirmSkip(number: number): void {
    if (this.#isUnsettled) this.confirm(number + 1);
  }

  /** Deletes the row. If that fails, a later writer deletes it after 30 days. */
  async unregister(): Promise<void> {
    if (!this.#isRegistered) return;
    await this.#db.query('DELETE FROM location_writers WHERE id = $1', [this.#id]).catch(() => undefined);
  }

  /**
   * Ends the sessions that still work on an earlier attempt. Such a session locks the row, possibly for hours if the
   * connection to its client is silent.
   * @returns whether an earlier attempt has stored the batch.
   */
  async #settle(number: number): Promise<boolean> {
    await this.#db.query(
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
       WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
         AND state <> 'idle' AND position($1 IN query) > 0`,
      [this.#mark],
    );
    return this.#isReached(number);
  }

  async #isReached(number: number): Promise<boolean> {
    const { rows } = await this.#db.query<{ reached: boolean }>(
      'SELECT last_batch = $2::bigint AS reached FROM location_writers WHERE id = $1::uuid',
      [this.#id, number],
    );
    return rows[0]?.reached ?? false;
  }

  /**
   * Registers the row again and inserts the batch. If the tables were emptied or restored from a backup, the row is
   * missing or has an old number. Earlier batches that were lost with the row are not written again.
   */
  async #insertIntoNewRow(number: number, locations: readonly LocationInput[]): Promise<boolean> {
    this.#isRegistered = false;
    await this.#register();
    return this.#insert(number, locations);
  }

  /** Stores the locations if the number is free. @returns whether it was free. */
  async #insert(number: number, locations: readonly LocationInput[]): Promise<boolean> {
    if (locations.length < rowsForCopy || !this.#copies) {
      const { rowCount } = await this.#db.query(`${this.#mark} ${insertOnce}`, [
        this.#id,
        number,
        ...arraysOf(locations),
      ]);
      return rowCount > 0;
    }
    return withTransaction(this.#db, async (transaction) => {
      const { rowCount } = await transaction.query(
        `${this.#mark} UPDATE location_writers SET last_batch = $2::bigint WHERE id = $1::uuid AND last_batch = $2::bigint - 1`,
        [this.#id, number],
      );
      if (rowCount === 0) return false;
      await copyFrom(transaction, `${this.#mark} ${copyStatement}`, encodeCopy(locations));
      return true;
    });
  }

  /** Creates the row, and deletes the rows of writers that stored nothing for 30 days. */
  async #register(): Promise<void> {
    if (this.#isRegistered) return;
    this.#copies ??= await takesCopy(this.#db);
    await this.#db.query("DELETE FROM location_writers WHERE updated_at < now() - interval '30 days'");
    await this.#db.query(
      `INSERT INTO location_writers (id, last_batch) VALUES ($1::uuid, $2::bigint)
       ON CONFLICT (id) DO UPDATE SET last_batch = excluded.last_batch WHERE location_writers.last_batch < excluded.last_batch`,
      [this.#id, this.#last],
    );
    this.#isRegistered = true;
  }
}

// $1 is the id of the row, $2 is the number of the batch. The other parameters are the locations.
const insertOnce = `WITH writer AS (
    UPDATE location_writers SET last_batch = $2::bigint WHERE id = $1::uuid AND last_batch = $2::bigint - 1 RETURNING id
  )
  INSERT INTO location_events (${columnNames}) SELECT ${columnNames} FROM ${unnestLocations(3)} WHERE EXISTS (SELECT FROM writer)`;
