// What goes wrong around a writer: attempts without an answer, rows moved behind its back, hooks that throw.
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Pool } from '../../../src/pool.ts';
import { createLocationWriter } from '../../../src/tracking/index.ts';
import { NumberedBatches } from '../../../src/tracking/writer/numbered-batches.ts';
import { withTransaction } from '../../../src/transaction.ts';
import { failure } from '../../support/failure.ts';
import { plainTracking } from '../../support/tracking.ts';
import { point, track } from '../../support/tracking-points.ts';

describe('a writer', () => {
  let db: Pool;
  beforeAll(async () => {
    ({ db } = await plainTracking({ max: 4 }));
  });
  beforeEach(() =>
    db.query(
      'TRUNCATE location_events, location_writers; ALTER TABLE location_events DROP CONSTRAINT IF EXISTS no_walk',
    ),
  );

  const stored = async () =>
    (
      await db.query<{ n: number }>("SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n")
    ).rows.map(({ n }) => n);
  const numbered = (n: number) => point({ metadata: { n } });
  const impatient = {
    connections: 1,
    maxWaitMs: 0,
    attemptTimeoutMs: 300,
    retryDelayMs: { min: 10, max: 50 },
  };

  test.each([10, 2_000])(
    'ends what is left of an attempt without an answer: %i events, once',
    async (count) => {
      const writer = createLocationWriter(db, { ...impatient, maxWaitMs: 20 });
      await writer.write(numbered(count));
      const events = track(count);
      const written = withTransaction(db, async (transaction) => {
        await transaction.query('LOCK TABLE location_events IN SHARE MODE');
        const all = Promise.all(events.map((event) => writer.write(event)));
        await sleep(1_500);
        // Others of the same pool find a connection all the while.
        await db.query('SELECT 1');
        return { all };
      });
      await (await written).all;
      expect(await stored()).toEqual([...events.map((_, n) => n), count]);
      expect(writer.stats.retries).toBeGreaterThan(1);
      await writer.close();
    },
  );

  test('takes a number away once: what arrives late does not give it back', async () => {
    const batches = new NumberedBatches(db);
    const givenUp = batches.next();
    batches.loseAnswer();
    expect(await batches.skip(givenUp)).toBe(false);
    batches.confirmSkip(givenUp);
    const number = batches.next();
    const locations = track(500);
    await batches.write(locations, number);
    // Its answer is lost, and the network delivers the first request a second time.
    batches.loseAnswer();
    expect(await batches.skip(givenUp)).toBe(false);
    await batches.write(locations, number);
    expect(await stored()).toEqual(locations.map((_, n) => n));
    batches.confirm(number);
    expect(batches.next()).toBe(number + 1);
  });

  test('acknowledges nothing in the place of a batch that it gave up', async () => {
    await db.query(
      `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
       CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON location_events DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW WHEN (NEW.speed = 1) EXECUTE FUNCTION slow()`,
    );
    const writer = createLocationWriter(db, impatient);
    await writer.write(numbered(0));
    const first = failure(writer.write({ ...numbered(1), speed: 1 }));
    await sleep(150);
    // The next attempt is refused at once.
    await db.query('ALTER TABLE location_events ADD CONSTRAINT no_walk CHECK (speed <> 1) NOT VALID');
    const refused = await first;
    await writer.write(numbered(2));
    await sleep(1_200);
    expect(refused).toMatchObject({ code: '23514' });
    expect(await stored()).toEqual([0, 2]);
    await writer.close();
    await db.query('DROP TRIGGER slow ON location_events; DROP FUNCTION slow');
  });

  test('goes on when its number was moved back, as by a restore', async () => {
    await using writer = createLocationWriter(db, impatient);
    for (const n of [0, 1, 2]) await writer.write(numbered(n));
    await db.query('UPDATE location_writers SET last_batch = last_batch - 1');
    for (const n of [3, 4]) await writer.write(numbered(n));
    expect(await stored()).toEqual([0, 1, 2, 3, 4]);
  });

  test('is not harmed by hooks that throw', async () => {
    const broken = () => {
      throw Object.assign(new Error('the metrics are gone'), { code: 'ECONNREFUSED' });
    };
    const writer = createLocationWriter(db, {
      ...impatient,
      onBatch: broken,
      onRetry: broken,
      onReject: broken,
    });
    await writer.write(numbered(0));
    // Nobody awaits it: the hook was told.
    void writer.write(point({ latitude: 91 }));
    await db.query('ALTER TABLE location_events ADD CONSTRAINT no_walk CHECK (speed <> 1) NOT VALID');
    expect(await failure(writer.write({ ...numbered(1), speed: 1 }))).toMatchObject({ code: '23514' });
    await writer.write(numbered(2));
    await writer.close();
    expect(await stored()).toEqual([0, 2]);
    expect(writer.stats).toMatchObject({ written: 2, rejected: 2, pending: 0 });
  });

  test('keeps its own copy of an event that its caller goes on to change', async () => {
    await using writer = createLocationWriter(db, { connections: 1 });
    const [time, metadata] = [new Date(), { n: 0 }];
    const begin = time.getTime();
    const written = [0, 1, 2].map((n) => {
      time.setTime(begin - n * 1_000);
      metadata.n = n;
      return writer.write(point({ time, metadata }));
    });
    time.setTime(Number.NaN);
    await Promise.all(written);
    const { rows } = await db.query<{ time: Date }>('SELECT time FROM location_events ORDER BY time DESC');
    expect(rows.map(({ time }) => begin - time.getTime())).toEqual([0, 1_000, 2_000]);
    expect(await stored()).toEqual([0, 1, 2]);
  });

  test('close() keeps to its time even while its own row is locked', async () => {
    const writer = createLocationWriter(db, impatient);
    await writer.write(numbered(0));
    await withTransaction(db, async (transaction) => {
      await transaction.query('LOCK TABLE location_writers');
      await writer.close({ timeoutMs: 200 });
    });
  });

  test.each([{ timeoutMs: Number.POSITIVE_INFINITY }, { timeoutMs: -1 }])(
    'close(%j) is refused',
    async (options) => {
      await expect(createLocationWriter(db).close(options)).rejects.toThrow(/use a whole number from 0 to/);
    },
  );
});
