// Lines of CSV and NDJSON: good ones become points, each bad one is named and harms no other.
import { describe, expect, test } from 'vitest';
import { ValidationError } from '../../../src/errors.ts';
import type { LocationFormat } from '../../../src/tracking/import/dialect.ts';
import {
  type LocationDefaults,
  type ParsedLocation,
  parseLocations,
} from '../../../src/tracking/import/parse.ts';

const defaults: LocationDefaults = {
  deviceId: '11111111-1111-4111-8111-111111111111',
  userId: '22222222-2222-4222-8222-222222222222',
  appSource: 'mextrack',
};

async function parse(text: string, format: LocationFormat = 'csv', given: LocationDefaults = defaults) {
  // Pieces as a stream cuts them: in the middle of lines, and of characters.
  async function* pieces() {
    const bytes = Buffer.from(text);
    const size = Math.max(7, Math.ceil(bytes.length / 1_000));
    // Into one buffer again and again, as whoever reads a file by hand does.
    const buffer = Buffer.alloc(size);
    for (let start = 0; start < bytes.length; start += size) {
      yield buffer.subarray(0, bytes.copy(buffer, 0, start, start + size));
    }
  }
  const parsed: ParsedLocation[] = [];
  for await (const lines of parseLocations(pieces(), format, { defaults: given })) parsed.push(...lines);
  return parsed;
}

/** Bytes in pieces of this size. */
async function parseBytes(bytes: Uint8Array, size: number) {
  async function* pieces() {
    for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
  }
  const parsed: ParsedLocation[] = [];
  for await (const lines of parseLocations(pieces(), 'csv', { defaults })) parsed.push(...lines);
  return parsed;
}

const reasons = (parsed: ParsedLocation[]) =>
  parsed.map((each) => ('reason' in each ? `${each.position}: ${each.reason}` : each.position));

describe('what is not UTF-8', () => {
  const time = '2026-01-02T03:04:05Z';
  const good = Buffer.from(`${time},1,2,"{""town"":""Córdoba 🚗""}"\n`);
  const latin1 = Buffer.from(`${time},1,2,"{""town"":""Córdoba""}"`, 'latin1');
  const head = Buffer.from('time,latitude,longitude,metadata\n');
  const lineFeed = Buffer.from('\n');

  test.each([1, 2, 3, 7, 100, 10_000])('is a line that does not fit, in pieces of %i bytes', async (size) => {
    const bytes = Buffer.concat([
      head,
      good,
      latin1,
      lineFeed,
      good,
      Buffer.from('# \xe9\n', 'latin1'),
      latin1,
    ]);
    const parsed = await parseBytes(bytes, size);
    expect(reasons(parsed)).toEqual([2, '3: is not UTF-8', 4, '6: is not UTF-8']);
    expect(parsed[0]).toMatchObject({ location: { metadata: { town: 'Córdoba 🚗' } } });
    expect(parsed[1]).toMatchObject({ bytes: Uint8Array.from(latin1) });
  });

  test('is not a header either', async () => {
    await expect(parseBytes(Buffer.from('time,\xe9\n', 'latin1'), 100)).rejects.toThrow(
      'The header is not UTF-8',
    );
  });

  test('is not what stands there as a replacement character, nor text that is cut in its middle', async () => {
    const text = `${head}${time},1,2,"{""a"":""\uFFFD 🚗""}"`;
    async function* units() {
      for (let index = 0; index < text.length; index += 1) yield text.charAt(index);
    }
    for await (const [parsed] of parseLocations(units(), 'csv', { defaults })) {
      expect(parsed).toMatchObject({ location: { metadata: { a: '\uFFFD 🚗' } } });
    }
  });
});

describe('CSV', () => {
  test('fills in defaults, rounds to the columns, and leaves the rest null', async () => {
    const parsed = await parse(
      '\uFEFFtime,latitude,longitude,altitude\n2026-01-02T03:04:05Z,45.452595614,14.018194014,753.330322',
    );
    expect(parsed).toMatchObject([
      {
        position: 2,
        location: {
          time: new Date('2026-01-02T03:04:05Z'),
          ...defaults,
          latitude: 45.45259561,
          longitude: 14.01819401,
          altitude: 753.33,
          accuracy: null,
          speed: null,
          heading: null,
          metadata: null,
        },
      },
    ]);
  });

  test('reads quoted fields, and columns in any order', async () => {
    const device = 'aaaaaaaa-1111-4111-8111-111111111111';
    const [row] = await parse(
      `metadata,longitude,device_id,latitude,time\n"{""a"":""x, y""}",2,${device},"1",2026-01-02 03:04:05.5+02`,
    );
    expect(row).toMatchObject({
      location: {
        metadata: { a: 'x, y' },
        deviceId: device,
        latitude: 1,
        longitude: 2,
        time: new Date('2026-01-02T01:04:05.500Z'),
      },
    });
  });

  test.each([
    ['2026-01-02T00:00:00Z,91,0,', 'latitude is 91, not from -90 to 90'],
    ['2026-01-02T00:00:00Z,0,-180.00000001,', 'longitude is -180.00000001'],
    ['2026-01-02T00:00:00Z,0,0,high', 'altitude is not a number: "high"'],
    ['2026-01-02T00:00:00Z,0,0,1000000', 'altitude is 1000000'],
    ['2026-01-02T00:00:00Z,NaN,0,', 'latitude is not a number: "NaN"'],
    ['2026-01-02T00:00:00Z,Infinity,0,', 'latitude is not a number'],
    ['2026-01-02T00:00:00Z,0x10,0,', 'latitude is not a number'],
    [',0,0,', 'time is missing'],
    ['yesterday,0,0,', 'time is not ISO 8601: "yesterday"'],
    ['2026-02-30T00:00:00Z,0,0,', 'time does not exist'],
    ['2026-01-02T25:00:00Z,0,0,', 'time does not exist'],
    ['0000-01-01T00:00:00Z,0,0,', 'time does not exist'],
    ['9999-12-31T23:59:00-10,0,0,', 'time does not exist'],
    ['2026-01-02T00:00:00Z,0', 'has 2 of 4 columns'],
    ['2026-01-02T00:00:00Z,0,0,0,0', 'has 5 of 4 columns'],
    ['2026-01-02T00:00:00Z,"0,0,', 'quote that does not close'],
  ])('names the line of %j', async (line, reason) => {
    const good = '2026-01-02T00:00:00Z,0,0,0';
    const parsed = await parse(`time,latitude,longitude,altitude\n${good}\n${line}\n\n# comment\n${good}\n`);
    expect(parsed).toHaveLength(3);
    expect(parsed[1]).toMatchObject({ position: 3, text: line, reason: expect.stringContaining(reason) });
    expect([parsed[0]?.position, parsed[2]?.position]).toEqual([2, 6]);
  });

  test.each([
    ['time,north,longitude', 'it says "north". The columns are time, device_id'],
    [
      '2010-10-03T09:36:30Z,1,2',
      'first line should be a header of column names, separated by "," ";" "\\t" "|"; it says "2010-10-03T09',
    ],
    ['time/latitude/longitude', 'it says "time/latitude/longitude"'],
    [`${'x'.repeat(1_000_000)}`, `${'x'.repeat(60)}…`],
    ['time,latitude,latitude,longitude', 'names "latitude" twice'],
    ['time,latitude', 'has no "longitude"'],
    ['time,"latitude,longitude', 'quote that does not close'],
  ])('refuses the header %j', async (header, reason) => {
    await expect(parse(header)).rejects.toThrow(ValidationError);
    await expect(parse(header)).rejects.toThrow(reason);
  });

  test('wants device, user and application from somewhere', async () => {
    await expect(parse('time,latitude,longitude', 'csv', {})).rejects.toThrow('has no "device_id"');
  });
});

test('NDJSON: types as they are, and each bad line by its reason', async () => {
  const good = '{"time":"2026-01-02T03:04:05Z","latitude":1.5,"longitude":"2.5","metadata":{"a":[1]}}';
  const parsed = await parse(
    [
      good,
      '{"time":"2026-01-02T03:04:05Z"',
      '[1]',
      '{"time":"2026-01-02T03:04:05Z","latitude":1,"longitude":2,"lon_odd":3}',
      '{"time":5,"latitude":1,"longitude":2}',
      '{"time":"2026-01-02T03:04:05Z","latitude":true,"longitude":2}',
      '{"time":"2026-01-02T03:04:05Z","latitude":1,"longitude":2,"device_id":"x"}',
      '{"time":"2026-01-02T03:04:05Z","latitude":1,"longitude":2,"metadata":"{"}',
      '{"time":"2026-01-02T03:04:05Z","latitude":1,"longitude":2,"metadata":{"a":"\\u0000"}}',
    ].join('\n'),
    'ndjson',
  );
  expect(parsed[0]).toMatchObject({
    location: { latitude: 1.5, longitude: 2.5, metadata: { a: [1] }, ...defaults },
  });
  expect(reasons(parsed).slice(1)).toEqual([
    '2: is not valid JSON',
    '3: is not a JSON object',
    '4: has an unknown column "lon_odd"',
    '5: time is not ISO 8601: "5"',
    '6: latitude is not a number: "true"',
    '7: device_id is not a uuid: "x"',
    '8: metadata is not valid JSON',
    '9: metadata has a character that jsonb cannot hold',
  ]);
});
