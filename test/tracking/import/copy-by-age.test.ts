// Old and recent rows in any order: each COPY has rows of one age, only old days are compressed, and all is stored or none.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { readTimescale } from '../../../src/timescale/catalog.ts';
import { isOlder } from '../../../src/timescale/timescale.ts';
import { CopyByAge } from '../../../src/tracking/import/copy-by-age.ts';
import { importLocations, type LocationInput } from '../../../src/tracking/index.ts';
import { encodeRow } from '../../../src/tracking/rows.ts';
import { withTransaction } from '../../../src/transaction.ts';
import { describeWith, testPool } from '../../support/database.ts';
import { day, point } from '../../support/tracking-points.ts';

type Tracking = Awaited<ReturnType<typeof testPool<'tracking'>>>;

describeWith(['timescaledb'], 'rows of two ages', () => {
  let db: Tracking;
  let compresses = false;
  const border = Date.now() - 8 * day;
  beforeAll(async () => {
    db = await testPool('tracking');
    compresses = !isOlder((await readTimescale(db))?.version ?? '0', '2.24');
  });

  /** 24,000 locations of a device, in turns of `turn` of 12 days ago and of today: 18 chunks of 256 kB. */
  const locations = (turn: number): LocationInput[] => {
    const device = { deviceId: randomUUID(), userId: randomUUID() };
    return Array.from({ length: 24_000 }, (_, n) => {
      const age = Math.floor(n / turn) % 2 === 0 ? 12 * day : day / 12;
      return point({ ...device, time: new Date(Date.now() - age - n) });
    });
  };
  const copyAll = (rows: readonly LocationInput[], failAt = Number.NaN) =>
    withTransaction(db, async (transaction) => {
      const copy = new CopyByAge(compresses ? border : Number.NEGATIVE_INFINITY, 2);
      async function* reading() {
        for (const [index, row] of rows.entries()) {
          if (index === failAt) throw new Error('the disk is gone');
          encodeRow(copy.bufferFor(row.time.getTime()), row);
          if (index % 500 === 0) yield;
        }
      }
      await copy.run(transaction, reading());
    });
  const stored = async (rows: readonly LocationInput[]) => {
    const { rows: found } = await db.query<{ old: number; recent: number }>(
      `SELECT count(*) FILTER (WHERE time < $2)::int AS old, count(*) FILTER (WHERE time >= $2)::int AS recent
       FROM location_events WHERE device_id = $1`,
      [rows[0]?.deviceId, new Date(border)],
    );
    return found[0];
  };

  test.each([1, 1_000, 12_000])('are all stored, %i of one age after the other', async (turn) => {
    const rows = locations(turn);
    await copyAll(rows);
    expect(await stored(rows)).toEqual({ old: 12_000, recent: 12_000 });
    const { rows: chunks } = await db.query<{ compressed: boolean[] }>(
      `SELECT array_agg(DISTINCT is_compressed) AS compressed FROM timescaledb_information.chunks
       WHERE hypertable_name = 'location_events' GROUP BY range_end < $1 ORDER BY range_end < $1`,
      [new Date(border)],
    );
    expect(chunks.map(({ compressed }) => compressed)).toEqual([[false], [compresses]]);
  });

  test('are none stored if one is refused, or cannot be read', async () => {
    await expect(copyAll(locations(1_000), 20_000)).rejects.toThrow('the disk is gone');
    const rows = locations(1_000);
    rows[20_000] = point({ deviceId: rows[0]?.deviceId as string, heading: 400 });
    await expect(copyAll(rows)).rejects.toMatchObject({ code: '23514' });
    expect(await stored(rows)).toEqual({ old: 0, recent: 0 });
  });

  test('are counted by an import, after which the transaction compresses no COPY of its own', async () => {
    const rows = locations(100);
    await withTransaction(db, async (transaction) => {
      const result = await importLocations(transaction, rows);
      expect(result).toMatchObject({ loaded: 24_000, compressed: compresses ? 12_000 : 0 });
      if (!compresses) return;
      const { rows: settings } = await transaction.query(
        "SELECT current_setting('timescaledb.enable_direct_compress_copy') AS setting",
      );
      expect(settings).toEqual([{ setting: 'off' }]);
    });
    expect(await stored(rows)).toEqual({ old: 12_000, recent: 12_000 });
  });
});
