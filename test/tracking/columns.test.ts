// A new column of location_events is one line in schema/tracking.ts, one in src/tracking/columns.ts, and its migration.
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import type { createDatabasePool, PoolOf } from '../../src/pool.ts';
import type * as Tracking from '../../src/tracking/index.ts';
import { copyOfProject } from '../support/migrations.ts';
import { plainTracking } from '../support/tracking.ts';
import { point } from '../support/tracking-points.ts';

type Tracker = typeof Tracking;
/** A location, as the changed project has it. */
type Location = Tracking.LocationInput & { battery?: number | null; note?: string | null };

/** Adds a line after the one that begins with `after`. */
function addLine(root: string, path: string, after: string, line: string): void {
  const source = readFileSync(join(root, path), 'utf8');
  const lines = source.split('\n');
  lines.splice(lines.findIndex((each) => each.trim().startsWith(after)) + 1, 0, line);
  expect(lines.length).toBe(source.split('\n').length + 1);
  writeFileSync(join(root, path), lines.join('\n'));
}

/** The project with the columns `battery smallint` and `note varchar(20)`. */
async function changedProject(): Promise<{ tracking: Tracker; db: PoolOf<'tracking'> }> {
  const { root } = copyOfProject();
  addLine(
    root,
    'schema/tracking.ts',
    '// Schema of atriz_tracking',
    "import { smallint } from 'drizzle-orm/pg-core';",
  );
  const lastOfSchema = "heading: decimal('heading'";
  addLine(root, 'schema/tracking.ts', lastOfSchema, "note: varchar('note', { length: 20 }),");
  addLine(root, 'schema/tracking.ts', lastOfSchema, "battery: smallint('battery'),");
  const lastOfColumns = 'heading: {';
  addLine(root, 'src/tracking/columns.ts', lastOfColumns, 'note: {},');
  addLine(root, 'src/tracking/columns.ts', lastOfColumns, 'battery: { min: 0, max: 100 },');
  const load = (path: string) => import(pathToFileURL(join(root, path)).href);

  const { db: original, url } = await plainTracking();
  await original.query(
    'ALTER TABLE location_events ADD COLUMN battery smallint, ADD COLUMN note varchar(20)',
  );
  const pools = (await load('src/pool.ts')) as { createDatabasePool: typeof createDatabasePool };
  const db = pools.createDatabasePool({ key: 'tracking', connectionString: url });
  return { tracking: (await load('src/tracking/index.ts')) as Tracker, db };
}

test('a new column is checked, written in every way, imported and read', async () => {
  const { tracking, db } = await changedProject();
  await using _closed = db;
  const begin = Date.now() - 3_600_000;
  const text = 'say "hi", \\ or 🚗';
  const locationsOf = (count: number): Location[] => {
    const device = { deviceId: randomUUID(), userId: randomUUID() };
    const at = (n: number) => ({
      time: new Date(begin + n * 1000),
      battery: n % 101,
      note: n === 0 ? text : n === 1 ? 'plain' : null,
    });
    return Array.from({ length: count }, (_, n) => ({ ...point(device), ...at(n) }));
  };
  const fields = ({ time, battery, note }: Location) => ({ time, battery, note });
  const expectStored = async (given: readonly Location[]) => {
    const { deviceId } = given[0] as Location;
    const range = { from: new Date(begin), to: new Date() };
    const track = await tracking.getTrack(db, deviceId, { ...range, maxPoints: 10_000 });
    expect(track.map(fields)).toEqual(given.map(fields));
  };

  const few = locationsOf(3);
  await tracking.recordLocations(db, few);
  await expectStored(few);

  const many = locationsOf(1_000);
  await tracking.recordLocations(db, many);
  await expectStored(many);

  const service = locationsOf(1_500);
  const writer = tracking.createLocationWriter(db, { connections: 1 });
  await Promise.all(service.map((location) => writer.write(location)));
  await writer.close();
  await expectStored(service);

  const imported = locationsOf(500);
  await tracking.importLocations(db, imported);
  await expectStored(imported);

  const fromJson = locationsOf(50);
  const lines = fromJson.map(
    ({ time, deviceId, userId, appSource: app_source, latitude, longitude, battery, note }) =>
      JSON.stringify({
        time,
        device_id: deviceId,
        user_id: userId,
        app_source,
        latitude,
        longitude,
        battery,
        note,
      }),
  );
  const load = (format: 'csv' | 'ndjson', rows: readonly string[], defaults = {}) =>
    tracking.importLocations(db, { format, stream: [rows.join('\n')] as never, defaults });
  expect(await load('ndjson', lines)).toMatchObject({ loaded: 50, rejected: 0 });
  await expectStored(fromJson);

  const fromCsv = locationsOf(50);
  const [{ deviceId, userId, appSource }] = fromCsv as [Location];
  // Rows without quotes are read from their bytes.
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const rows = fromCsv.map(({ time, latitude, longitude, battery, note }) =>
    [time.toISOString(), latitude, longitude, battery, note ? quoted(note) : ''].join(),
  );
  const header = 'time,latitude,longitude,battery,note';
  expect(await load('csv', [header, ...rows], { deviceId, userId, appSource })).toMatchObject({ loaded: 50 });
  await expectStored(fromCsv);

  const range = { from: new Date(begin), to: new Date() };
  const newest = fields(few[2] as Location);
  const id = few[0]?.deviceId as string;
  expect((await tracking.getRecentLocations(db, id, { limit: 1 })).map(fields)).toEqual([newest]);
  expect((await tracking.getLatestLocations(db, { deviceIds: [id] })).map(fields)).toEqual([newest]);
  expect((await tracking.getLocationHistory(db, id, range)).points.map(fields)).toEqual(few.map(fields));

  const wrong = [{ battery: 101 }, { battery: '5' }, { note: 'x'.repeat(21) }, { note: '\0' }, { note: 5 }];
  const batch = wrong.map((change) => ({ ...point(), ...change }));
  const { rejected } = await tracking.recordLocations(db, batch, { onInvalid: 'skip' });
  expect(rejected.map(({ reason }) => reason)).toEqual([
    'battery is 101, not from 0 to 100',
    'battery is not a number',
    'note is longer than 20 characters',
    'note has a character that PostgreSQL cannot hold',
    'note is not text',
  ]);
});
