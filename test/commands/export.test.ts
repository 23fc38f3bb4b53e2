// What export writes, import reads back to the same rows; and an import that finds what is stored already.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Pool } from '../../src/pool.ts';
import { getTrack, recordLocations } from '../../src/tracking/index.ts';
import { environmentFor, runCli, runCliProcess } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool } from '../support/database.ts';

const folder = mkdtempSync(join(tmpdir(), 'atriz-export-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describeWith(['timescaledb'], 'with TimescaleDB', () => {
  let db: Pool;
  let environment: Record<string, string>;
  let device: string;
  const since = new Date(Date.now() - 3 * 3_600_000);
  const range = () => ['--device', device, '--from', since.toISOString()];
  const rows = async () =>
    (await db.query('SELECT * FROM location_events WHERE device_id = $1 ORDER BY time', [device])).rows;

  beforeAll(async () => {
    const url = await migratedDatabase('tracking');
    environment = environmentFor('tracking', url);
    db = openPool('tracking', url);
  });
  beforeEach(async () => {
    device = randomUUID();
    const userId = randomUUID();
    const base = {
      deviceId: device,
      userId,
      appSource: 'pshop',
      latitude: -34.60371234,
      longitude: -58.38161234,
    };
    await recordLocations(
      db,
      Array.from({ length: 2_500 }, (_, index) => ({
        ...base,
        time: new Date(since.getTime() + index * 3_000 + 123),
        ...(index % 2 && { altitude: -1.25, speed: index % 100, heading: 359.99, accuracy: 4.5 }),
        ...(index === 7 && {
          metadata: { note: 'a "quoted", <b>&amp;</b>\nline; ü', list: [1, null], '': '' },
        }),
      })),
    );
  });

  test.each(['csv', 'ndjson', 'geojson', 'gpx'])('%s comes back the same', async (format) => {
    const before = await rows();
    expect(before).toHaveLength(2_500);
    const file = join(folder, `${device}.${format}`);
    const written = await runCli(['export', ...range(), '--format', format, '--output', file], environment);
    expect(written).toEqual({ code: 0, stdout: '', stderr: '' });
    const packed = `${file}.gz`;
    writeFileSync(packed, gzipSync(readFileSync(file)));
    await db.query('DELETE FROM location_events WHERE device_id = $1', [device]);
    const loaded = await runCli(['import', packed], environment);
    expect(loaded).toMatchObject({ code: 0, stderr: '' });
    expect(loaded.stdout).toContain(`Reading ${format}, compressed by gzip.`);
    expect(await rows()).toEqual(before);
  });

  test('writes to standard output, nothing for a device without locations, and over no file that exists', async () => {
    const { stdout } = await runCliProcess(['export', ...range(), '--format', 'ndjson'], environment);
    expect(stdout.trim().split('\n')).toHaveLength(2_500);
    const nobody = ['export', '--device', randomUUID(), '--from', '2026-01-01'];
    expect((await runCliProcess(nobody, environment)).stdout.trim()).toMatch(/^time,device_id,.*metadata$/);
    const file = join(folder, 'exists.csv');
    writeFileSync(file, 'mine');
    expect(await runCli(['export', ...range(), '--output', file], environment)).toMatchObject({
      code: 2,
      stderr: `${file} exists: choose another name for --output.\n`,
    });
    expect(readFileSync(file, 'utf8')).toBe('mine');
    const to = new Date(since.getTime() + 60_000);
    const minute = await runCliProcess(['export', ...range(), '--to', to.toISOString()], environment);
    const track = await getTrack(db, device, { from: since, to, maxPoints: 100 });
    expect(minute.stdout.trim().split('\n')).toHaveLength(1 + track.length);
  });

  test('--once leaves out what is stored already, and what the file has twice', async () => {
    const file = join(folder, `${device}.csv`);
    await runCli(['export', ...range(), '--output', file], environment);
    await db.query('DELETE FROM location_events WHERE device_id = $1 AND time > $2', [
      device,
      new Date(since.getTime() + 2_000 * 3_000),
    ]);
    const [header = '', ...lines] = readFileSync(file, 'utf8').trim().split('\n');
    writeFileSync(file, [header, ...lines, lines.at(-1), lines.at(0)].join('\n'));
    const once = await runCli(['import', file, '--once', '--json'], environment);
    expect(JSON.parse(once.stdout)).toMatchObject({ loaded: 500, alreadyStored: 2_002, rejectedCount: 0 });
    expect(await rows()).toHaveLength(2_500);
    const again = await runCli(['import', file, '--once'], environment);
    expect(again.stdout).toContain('0 locations loaded');
    expect(again.stdout).toContain('2,502 locations stored already, and left out.');
    expect(await rows()).toHaveLength(2_500);
  });

  test('--dry-run reads and checks, and loads nothing', async () => {
    const file = join(folder, `${device}-dry.csv`);
    writeFileSync(file, `time;lat;lon\n${since.toISOString()};1,5;2,5\n${since.toISOString()};95;2\n`);
    const options = ['--device', device, '--user', randomUUID(), '--app', 'mextrack', '--dry-run'];
    const { code, stdout, stderr } = await runCli(['import', file, ...options], {});
    expect(code).toBe(1);
    expect(stdout).toBe(
      'Reading csv, separated by ";", lat is latitude, lon is longitude.\n' +
        `1 location would be loaded, from ${since.toISOString()} to ${since.toISOString()}.\n`,
    );
    expect(stderr).toBe('1 row left out:\n  line 3: latitude is 95, not from -90 to 90\n');
    expect(await rows()).toHaveLength(2_500);
  });

  test.each(['2026-02-30', '11/12/2026', '1Z', '2026-01-01T25:00'])('--from %s is refused', async (from) => {
    const { code, stderr } = await runCli(['export', '--device', device, '--from', from], environment);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('It should be ISO 8601') });
  });

  test('a file of gzip that is cut is refused, and nothing of it is loaded', async () => {
    const file = join(folder, `${device}-cut.csv.gz`);
    const text = readFileSync(join(folder, `${device}.csv`), { flag: 'a+' });
    await runCli(['export', ...range(), '--output', join(folder, `${device}-whole.csv`)], environment);
    const whole = gzipSync(readFileSync(join(folder, `${device}-whole.csv`)));
    writeFileSync(file, whole.subarray(0, whole.length - 100));
    expect(text).toHaveLength(0);
    const { code, stderr } = await runCli(['import', file], environment);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `${file} is not whole: unexpected end of file. Nothing was loaded.\n`,
    });
    expect(await rows()).toHaveLength(2_500);
  });
});
