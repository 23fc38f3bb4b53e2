// db:import: real-world files go in, bad lines come out named, and all of it or none.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { getHourlyStats, getRecentLocations, type Pool } from '../../src/index.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool } from '../support/database.ts';

const device = '11111111-1111-4111-8111-111111111111';
const user = '22222222-2222-4222-8222-222222222222';

const header = 'time,latitude,longitude,altitude';
/** A walk of long ago, one point every 20 seconds, with more decimals than the columns keep. */
const walk = Array.from({ length: 500 }, (_, index) => {
  const time = new Date(Date.UTC(2010, 9, 3, 9, 36, 30) + index * 20_000).toISOString();
  return `${time},45.4525956${String(index).padStart(3, '0')},14.018194014,${(750 + index / 7).toFixed(6)}`;
});

describeWith(['timescaledb'], 'import', () => {
  let db: Pool;
  let environment: Record<string, string>;
  let folder: string;
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'atriz-import-'));
    const url = await migratedDatabase('tracking');
    db = openPool('tracking', url);
    environment = environmentFor('tracking', url);
  });
  const load = (name: string, lines: string[], ...args: string[]) => {
    writeFileSync(join(folder, name), `${lines.join('\n')}\n`);
    return runCli(['import', name, ...args], environment, { cwd: folder });
  };

  test('moves a track to the present and loads all of it', async () => {
    const { code, stdout, stderr } = await load(
      'walk.csv',
      [header, ...walk],
      '--app',
      'mextrack',
      '--device',
      device,
      '--user',
      user,
      '--shift-to-now',
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      /^Server \S+, from the environment\.\n\nReading csv\.\n500 locations loaded, from /,
    );
    const points = await getRecentLocations(db, device);
    expect(points).toHaveLength(500);
    expect(points[0]).toMatchObject({
      userId: user,
      appSource: 'mextrack',
      latitude: 45.45259565,
      altitude: 821.29,
    });
    expect(Date.now() - (points[0]?.time.getTime() ?? 0)).toBeLessThan(60_000);
    expect((points[0]?.time.getTime() ?? 0) - (points[499]?.time.getTime() ?? 0)).toBe(499 * 20_000);
    const hours = await getHourlyStats(db, device);
    expect(hours.reduce((sum, { pointCount }) => sum + pointCount, 0)).toBe(500);
  });

  test('names each bad line, keeps them in a file that can be mended and loaded, and exits 1', async () => {
    const lines = [header, ...walk.slice(0, 20)];
    const break_ = (line: number, change: (cells: string[]) => string[]) => {
      lines[line - 1] = change((lines[line - 1] ?? '').split(',')).join(',');
    };
    break_(3, ([time, , ...rest]) => [time ?? '', '91', ...rest]);
    break_(5, ([time, latitude, longitude]) => [time ?? '', latitude ?? '', longitude ?? '', 'high']);
    break_(7, ([, ...rest]) => ['', ...rest]);
    break_(9, ([time, latitude]) => [time ?? '', latitude ?? '']);
    break_(11, ([time, latitude, , altitude]) => [time ?? '', latitude ?? '', 'NaN', altitude ?? '']);
    const other = '33333333-1111-4111-8111-111111111111';
    const options = ['--app', 'pshop', '--device', other, '--user', user, '--shift-to-now'];
    const { code, stdout, stderr } = await load('broken.csv', lines, ...options);
    expect(code).toBe(1);
    expect(stdout).toContain('15 locations loaded');
    expect(stderr).toContain('5 rows left out');
    const named = [
      'line 3: latitude is 91, not from -90 to 90',
      'line 5: altitude is not a number: "high"',
      'line 7: time is missing',
      'line 9: has 2 of 4 columns',
      'line 11: longitude is not a number: "NaN"',
    ];
    for (const reason of named) expect(stderr).toContain(reason);
    expect(await getRecentLocations(db, other)).toHaveLength(15);

    const rejects = readFileSync(join(folder, 'broken.rejects.csv'), 'utf8').trim().split('\n');
    expect(rejects).toEqual([
      header,
      ...[3, 5, 7, 9, 11].flatMap((line, index) => [`# ${named[index]}`, lines[line - 1] ?? '']),
    ]);
    const again = await load(
      'mended.csv',
      rejects.map((line) => line.replace(',91,', ',45.1,')),
      ...options,
      '--json',
    );
    expect(JSON.parse(again.stdout)).toMatchObject({ loaded: 1, rejectedCount: 4 });
  });

  test('measures --shift-to-now by times that it takes, turns -1 into NULL, refuses 0,0, warns of a cut end', async () => {
    const own = '77777777-1111-4111-8111-111111111111';
    const path = join(folder, 'clock.csv');
    const text = [
      'time,speed,latitude,longitude',
      '2080-01-01T00:00:00Z,1,2,3',
      '2010-01-01T00:00:00Z,-1,2,3',
      '2010-01-01T00:01:00Z,5,0,0',
      '2010-01-01T00:00:30Z,7,-34.6,-5',
    ].join('\n');
    writeFileSync(path, text);
    const options = ['--app', 'pshop', '--device', own, '--user', user, '--shift-to-now'];
    const { code, stdout, stderr } = await runCli(['import', path, ...options], environment);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^2 locations loaded/m);
    expect(stderr).toContain('line 2: time lies in the future');
    expect(stderr).toContain('line 4: latitude and longitude are 0');
    expect(stderr).toContain('Line 5, the last one, ends inside a number');
    const points = await getRecentLocations(db, own);
    expect(points.map(({ speed }) => speed)).toEqual([7, null]);
    expect(Date.now() - (points[0]?.time.getTime() ?? 0)).toBeLessThan(60_000);

    writeFileSync(path, `${text}\n`);
    const again = await runCli(['import', path, ...options, '--allow-zero-position', '--json'], environment);
    expect(JSON.parse(again.stdout)).toMatchObject({ loaded: 3, rejectedCount: 1, unendedLine: null });
  });

  test('keeps rejects beside the input, and those of an earlier import as they are', async () => {
    const options = ['--app', 'pshop', '--device', device, '--user', user];
    const header = 'time,latitude,longitude';
    const wrong = `${new Date().toISOString()},91,2`;
    const run = (name: string, rows: string[], ...more: string[]) => {
      writeFileSync(join(folder, name), `${[header, ...rows].join('\n')}\n`);
      return runCli(['import', join(folder, name), ...options, ...more, '--json'], environment);
    };
    const report = async (...args: Parameters<typeof run>) => JSON.parse((await run(...args)).stdout);
    mkdirSync(join(folder, 'a'));
    mkdirSync(join(folder, 'b'));
    const first = join(folder, 'a', 'same.rejects.csv');
    expect((await report('a/same.csv', [wrong])).rejectsFile).toBe(first);
    expect((await report('b/same.csv', [wrong])).rejectsFile).toBe(join(folder, 'b', 'same.rejects.csv'));
    writeFileSync(first, 'half mended');
    const second = join(folder, 'a', 'same.rejects-2.csv');
    expect(await report('a/same.csv', [wrong])).toMatchObject({
      rejectsFile: second,
      earlierRejectsFile: first,
    });
    expect(await report('a/same.csv', [])).toMatchObject({ rejectsFile: null, earlierRejectsFile: first });
    expect(readFileSync(first, 'utf8')).toBe('half mended');
    expect(await run('a/same.csv', [wrong], '--rejects', first)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('somebody may be mending it'),
    });
    // A device cannot be corrected as a file can.
    expect(await report('a/same.csv', [wrong], '--rejects', '/dev/null')).toMatchObject({ rejectedCount: 1 });
  });

  test('an import that fails leaves no rejects', async () => {
    const text = Buffer.concat([
      Buffer.from(`time,latitude,longitude\n${new Date().toISOString()},91,2\n`),
      Buffer.alloc(1_100_000, 'x'),
    ]);
    writeFileSync(join(folder, 'fails.csv'), text);
    const { code } = await runCli(
      ['import', join(folder, 'fails.csv'), '--app', 'pshop', '--device', device, '--user', user],
      environment,
    );
    expect(code).not.toBe(0);
    expect(existsSync(join(folder, 'fails.rejects.csv'))).toBe(false);
  });

  test('reads NDJSON, and columns win over options', async () => {
    const own = '44444444-1111-4111-8111-111111111111';
    const row = {
      time: new Date().toISOString(),
      latitude: 1,
      longitude: 2,
      device_id: own,
      metadata: { a: 1 },
    };
    const { code } = await load(
      'points.ndjson',
      [JSON.stringify(row)],
      '--app',
      'pshop',
      '--device',
      device,
      '--user',
      user,
    );
    expect(code).toBe(0);
    expect(await getRecentLocations(db, own)).toMatchObject([{ metadata: { a: 1 }, appSource: 'pshop' }]);
  });

  test('says what happens to points older than the retention', async () => {
    const { code, stdout } = await load(
      'old.csv',
      [header, ...walk.slice(0, 3)],
      '--app',
      'pshop',
      '--device',
      device,
      '--user',
      user,
    );
    expect(code).toBe(0);
    expect(stdout).toContain('3 locations older than the retention');
  });

  test('an hour that the aggregate holds already is computed again with what was loaded into it', async () => {
    const own = '55555555-1111-4111-8111-111111111111';
    const options = ['--app', 'pshop', '--device', own, '--user', user];
    const at = (minutes: number) => new Date(Date.now() - 20 * 86_400_000 + minutes * 60_000).toISOString();
    await load('first.csv', ['time,latitude,longitude', `${at(0)},1,2`], ...options);
    await load('second.csv', ['time,latitude,longitude', `${at(0)},1,2`], ...options);
    const hours = await getHourlyStats(db, own, { days: 30 });
    expect(hours.map(({ pointCount }) => pointCount)).toEqual([2]);
  });

  test('refuses what it cannot read, exit 2, and loads nothing', async () => {
    const options = ['--app', 'pshop', '--device', device, '--user', user];
    const before = (await db.query('SELECT 1 FROM location_events')).rowCount;
    expect(await runCli(['import', 'nofile.csv', ...options], environment, { cwd: folder })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('There is no file'),
    });
    expect(await load('empty.csv', [], '--rejects', 'nowhere/x.csv', ...options)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('There is no folder'),
    });
    expect(await runCli(['import', folder, ...options], environment)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is not a file'),
    });
    expect(await load('header.csv', ['time,north,east', '1,2,3'], ...options)).toMatchObject({ code: 2 });
    expect(await load('ok.csv', [header], '--app', 'nope')).toMatchObject({ code: 2 });
    expect(await load('ok.csv', [header], '--device', 'nope')).toMatchObject({ code: 2 });
    expect(await load('ok.csv', [header])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--device'),
    });
    expect((await db.query('SELECT 1 FROM location_events')).rowCount).toBe(before);
  });

  test('loads a large file with flat memory', async () => {
    const path = join(folder, 'large.csv');
    const rows = Array.from(
      { length: 60_000 },
      (_, index) => `${new Date(Date.now() - index * 1000).toISOString()},1,2,3`,
    );
    writeFileSync(path, `${[header, ...rows].join('\n')}\n`);
    const own = '66666666-1111-4111-8111-111111111111';
    const { code, stdout } = await runCli(
      ['import', path, '--app', 'pshop', '--device', own, '--user', user, '--json'],
      { ...environment, NODE_OPTIONS: '--max-old-space-size=96' },
      { cwd: folder },
    );
    expect({ code, ...JSON.parse(stdout) }).toMatchObject({ code: 0, loaded: 60_000, rejectedCount: 0 });
  });
});
