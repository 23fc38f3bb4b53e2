// importLocations: any source, all good points or none, on a table or through a view.
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Pool } from '../../src/pool.ts';
import { importLocations, type LocationInput } from '../../src/tracking/index.ts';
import { withTransaction } from '../../src/transaction.ts';
import { failure } from '../support/failure.ts';
import { plainTracking } from '../support/tracking.ts';
import { day, point, track } from '../support/tracking-points.ts';

describe('importLocations', () => {
  let db: Pool;
  beforeAll(async () => {
    ({ db } = await plainTracking());
  });

  const stored = async ({ deviceId }: LocationInput) =>
    (
      await db.query<{ n: number }>(
        "SELECT (metadata->>'n')::int AS n FROM location_events WHERE device_id = $1 ORDER BY n",
        [deviceId],
      )
    ).rows.map(({ n }) => n);
  const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

  test('takes an array, and an async iterable', async () => {
    for (const asSource of [
      (events: LocationInput[]) => events,
      (events: LocationInput[]) => Readable.from(events),
    ]) {
      const events = track(12_345);
      const [first, last] = [events[0], events.at(-1)] as [LocationInput, LocationInput];
      const result = await importLocations(db, asSource(events));
      expect(result).toMatchObject({
        loaded: 12_345,
        rejected: 0,
        from: first.time,
        to: last.time,
        compressed: 0,
      });
      expect(await stored(first)).toEqual(numbers(12_345));
    }
  });

  test('takes NDJSON, and names what does not fit by line', async () => {
    const events = track(5);
    const toRow = ({ deviceId, userId, appSource, ...rest }: LocationInput) =>
      JSON.stringify({ device_id: deviceId, user_id: userId, app_source: appSource, ...rest });
    const lines = events.map(toRow).toSpliced(2, 0, '{"latitude": 91}', 'no JSON');
    const rejects: unknown[] = [];
    const result = await importLocations(
      db,
      { format: 'ndjson', stream: Readable.from([lines.join('\n')]) },
      { onReject: (reject) => rejects.push(reject) },
    );
    expect(result).toMatchObject({ loaded: 5, rejected: 2 });
    expect(rejects).toEqual([
      { position: 3, reason: 'time is missing', text: '{"latitude": 91}' },
      { position: 4, reason: 'is not valid JSON', text: 'no JSON' },
    ]);
    expect(await stored(events[0] as LocationInput)).toEqual(numbers(5));
  });

  test('takes points of any age and says how many will be dropped; the future is no age', async () => {
    const times = [0, 29, 31, 400, -1].map((days) => new Date(Date.now() - days * day));
    const rejects: string[] = [];
    const result = await importLocations(
      db,
      times.map((time) => point({ time })),
      {
        onReject: ({ position, reason }) => rejects.push(`${position}: ${reason}`),
      },
    );
    expect(result).toMatchObject({ loaded: 4, rejected: 1, olderThanRetention: 2 });
    expect(rejects).toEqual([expect.stringMatching(/^4: time lies in the future/)]);
  });

  test('loads nothing when the source, the server or the last word fails', async () => {
    const events = track(20_000);
    async function* failing() {
      yield* events;
      throw new Error('the disk is gone');
    }
    expect(String(await failure(importLocations(db, failing())))).toContain('the disk is gone');
    const lastWord = () => Promise.reject(new Error('no room for the rejects'));
    expect(String(await failure(importLocations(db, events, { beforeCommit: lastWord })))).toContain(
      'no room',
    );
    await db.query('ALTER TABLE location_events ADD CONSTRAINT no_island CHECK (latitude <> 13) NOT VALID');
    const island = [...events, point({ latitude: 13 })];
    expect(await failure(importLocations(db, island))).toMatchObject({ code: '23514' });
    expect(await stored(events[0] as LocationInput)).toEqual([]);
  });

  test('is part of a transaction that it is given', async () => {
    const events = track(3_000);
    const rolledBack = withTransaction(db, async (transaction) => {
      const { loaded } = await importLocations(transaction, events);
      throw new Error(`${loaded} seen`);
    });
    expect(String(await failure(rolledBack))).toContain('3000 seen');
    expect(await stored(events[0] as LocationInput)).toEqual([]);
  });

  test('goes through a view, which takes no COPY', async () => {
    await db.query(
      `CREATE SCHEMA own; CREATE VIEW own.location_events WITH (security_barrier) AS
       SELECT * FROM public.location_events WHERE app_source = 'mextrack' WITH CASCADED CHECK OPTION`,
    );
    const events = track(12_000);
    await withTransaction(db, async (transaction) => {
      await transaction.query('SET LOCAL search_path = own, public');
      expect(await importLocations(transaction, events)).toMatchObject({ loaded: 12_000 });
      const foreign = failure(
        withTransaction(transaction, (inner) => importLocations(inner, [point({ appSource: 'pshop' })])),
      );
      expect(await foreign).toMatchObject({ code: '44000' });
    });
    expect(await stored(events[0] as LocationInput)).toEqual(numbers(12_000));
  });
});
