// A connection that dies inside of a transaction: one error, nothing half done, and the process lives on.
import { beforeAll, describe, expect, test } from 'vitest';
import { ConnectionError, type Pool, type Transaction, withTransaction } from '../../src/index.ts';
import { emptyDatabase, openPool } from '../support/database.ts';
import { failure } from '../support/failure.ts';

describe('a transaction whose connection is lost', () => {
  let db: Pool;
  beforeAll(async () => {
    db = openPool('atriz', await emptyDatabase('atriz'), { max: 2 });
    await db.query('CREATE TABLE notes (text text)');
  });

  const isLoss = (error: unknown) =>
    error instanceof ConnectionError || (error as { code?: string }).code === '57P01';
  const backend = 'SELECT pg_backend_pid() AS pid';
  const end = (pid: unknown) => db.query('SELECT pg_terminate_backend($1::int)', [pid]);
  const notes = async () => (await db.query('SELECT text FROM notes')).rowCount;

  test('during a statement: the transaction rejects, and the pool goes on', async () => {
    const lost = withTransaction(db, async (transaction) => {
      const [row] = (await transaction.query(backend)).rows;
      await transaction.query("INSERT INTO notes VALUES ('half')");
      await Promise.all([transaction.query('SELECT pg_sleep(30)'), end(row?.pid)]);
    });
    expect(await failure(lost)).toSatisfy(isLoss);
    expect(await notes()).toBe(0);
  });

  test('between statements: what comes later does not run on another connection', async () => {
    let late: unknown;
    let finished: () => void = () => undefined;
    const through = new Promise<void>((resolve) => {
      finished = resolve;
    });
    const lost = withTransaction(db, async (transaction) => {
      const [row] = (await transaction.query(backend)).rows;
      await end(row?.pid);
      // Until the pool has noticed, and has opened another connection in its place.
      for (let open = 1; open > 0; ) {
        open = (await db.query('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [row?.pid])).rowCount;
      }
      await Promise.all([db.query('SELECT pg_sleep(0.05)'), db.query('SELECT pg_sleep(0.05)')]);
      late = await failure(transaction.query("INSERT INTO notes VALUES ('outside of any transaction')"));
      finished();
    });
    expect(await failure(lost)).toSatisfy(isLoss);
    await through;
    expect(String(late)).toContain('the connection of the transaction is lost');
    expect(await notes()).toBe(0);
  });

  test('inside of a savepoint whose error is swallowed: nothing is committed', async () => {
    const lost = withTransaction(db, async (transaction) => {
      const [row] = (await transaction.query(backend)).rows;
      await transaction.query("INSERT INTO notes VALUES ('half')");
      await withTransaction(transaction, async (savepoint) => {
        await Promise.all([savepoint.query('SELECT pg_sleep(30)'), end(row?.pid)]);
      }).catch(() => undefined);
    });
    expect(await failure(lost)).toSatisfy(isLoss);
    expect(await notes()).toBe(0);
  });

  test('in a transaction of Drizzle', async () => {
    const lost = db.orm.transaction(async (transaction) => {
      const [row] = (await transaction.execute(backend)) as unknown as { pid: number }[];
      await Promise.all([transaction.execute('SELECT pg_sleep(30)'), end(row?.pid)]);
    });
    expect(await failure(lost)).toBeInstanceOf(Error);
    expect(await notes()).toBe(0);
  });

  test('a transaction object that outlives its transaction runs nothing', async () => {
    const kept = await withTransaction(db, async (transaction) => transaction);
    expect(await failure(kept.query("INSERT INTO notes VALUES ('late')"))).toMatchObject({
      message: expect.stringContaining('the transaction has ended'),
    });
    expect(await notes()).toBe(0);
  });
});

describe('a statement that comes too late', () => {
  let db: Pool;
  beforeAll(async () => {
    db = openPool('atriz', await emptyDatabase('atriz'), { max: 1 });
    await db.query('CREATE TABLE notes (text text)');
  });
  const late: Promise<unknown>[] = [];
  const laterBy = async (transaction: Transaction, turns: number) => {
    for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    await transaction.query("INSERT INTO notes VALUES ('late')");
  };

  test('while COMMIT or ROLLBACK is on its way is not run, neither in the transaction nor behind it', async () => {
    for (let turns = 0; turns < 12; turns += 1) {
      const committed = withTransaction(db, async (transaction) => {
        await transaction.query('SELECT 1');
        late.push(laterBy(transaction, turns).catch((error: Error) => error.message));
      });
      const failed = withTransaction(db, async (transaction) => {
        await transaction.query('SELECT 1');
        late.push(laterBy(transaction, turns).catch((error: Error) => error.message));
        throw new Error('mine');
      });
      await expect(failed).rejects.toThrow(/^mine$/);
      await committed;
    }
    const outcomes = await Promise.all(late);
    expect(outcomes).toContain('Not run: the transaction has ended.');
    // What ran was a part of its transaction: those of failed transactions left nothing.
    const ran = outcomes.filter((_, place) => place % 2 === 0).filter((outcome) => outcome === undefined);
    expect((await db.query('DELETE FROM notes')).rowCount).toBe(ran.length);
  });
});
