// Rows of CSV that are encoded from their bytes: the same bytes for the server as by way of strings, or none.
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Pool } from '../../../src/pool.ts';
import { locationColumns } from '../../../src/tracking/columns.ts';
import { readLine } from '../../../src/tracking/import/lines.ts';
import { LineReader, type ParseOptions } from '../../../src/tracking/import/parse.ts';
import { plainRows } from '../../../src/tracking/import/plain-rows.ts';
import { importLocations } from '../../../src/tracking/index.ts';
import { createCopyBuffer, encodeRow } from '../../../src/tracking/rows.ts';
import { acceptsTime, checkLimits, locationLimits } from '../../../src/tracking/validate.ts';
import { plainTracking } from '../../support/tracking.ts';

const limits = locationLimits({ anyAge: true });
const [device, user] = ['d98d7092-4ee7-456a-8790-57eac5b6b4b4', '1D4A30D7-8de6-4e5f-8885-ffac2c6b8425'];

/** Both ways to read the rows of a header. */
function readersOf(header: string, options: ParseOptions = {}, shiftMs = 0) {
  const lines = new LineReader('csv', options);
  lines.read(header);
  if (!lines.layout) throw new Error('This is not a header.');
  const fromStrings = (line: string): string | undefined => {
    const parsed = lines.read(readLine(Buffer.from(line), 0).text);
    if (!parsed || !('location' in parsed)) return undefined;
    const { time } = parsed.location;
    const location = { ...parsed.location, time: new Date(time.getTime() + shiftMs) };
    if (checkLimits(location, limits) !== undefined) return undefined;
    const buffer = createCopyBuffer();
    encodeRow(buffer, location);
    return Buffer.from(buffer.end()).toString('hex');
  };
  const buffer = createCopyBuffer();
  const target = {
    bufferFor: (time: number) => (acceptsTime(time, limits) ? buffer : undefined),
    count: () => undefined,
    foreignSources: [],
  };
  const plain = plainRows(lines.layout, shiftMs, target);
  const fromBytes = (line: string): string | undefined => {
    const bytes = Buffer.from(`${line}\n`);
    const { rows, end } = plain?.encode(bytes, 0) ?? { rows: 0, end: 0 };
    const encoded = Buffer.from(buffer.end()).toString('hex');
    if (rows === 1 && end === bytes.length) return encoded;
    expect([rows, end, encoded]).toEqual([0, 0, Buffer.from(createCopyBuffer().end()).toString('hex')]);
    return undefined;
  };
  return { fromStrings, fromBytes };
}

const digits = (min: number, max: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: min, maxLength: max });
const padded = (max: number, length: number) =>
  fc.nat({ max }).map((number) => String(number).padStart(length, '0'));
const numbers = fc.oneof(
  fc
    .tuple(fc.constantFrom('', '-', '+'), digits(1, 3), digits(1, 9))
    .map(([sign, a, b]) => `${sign}${a}.${b}`),
  fc
    .tuple(
      fc.constantFrom('', '-', '+', ' '),
      digits(0, 18),
      fc.constantFrom('', '.', ',', 'e'),
      digits(0, 18),
    )
    .map((parts) => parts.join('')),
  fc.tuple(digits(1, 2), digits(0, 9)).map(([a, b]) => `${a}.${b}5`),
  fc.double({ min: -400, max: 400 }).map(String),
  fc.integer({ min: -40_000, max: 40_000 }).map(String),
  fc.constantFrom(
    '',
    '0',
    '-0',
    '-1',
    '-1.00',
    '-1.0000001',
    '-0.000001',
    '.',
    '-',
    '-.',
    '5.',
    '.5',
    '0x10',
    'NaN',
    'Infinity',
    '1e2',
    ' 5',
    '5 ',
    '1_0',
    '٣',
  ),
);
const times = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .date({ min: new Date('0001-01-01'), max: new Date('2100-01-01'), noInvalidDate: true })
      .map((date) => date.toISOString()),
  },
  fc
    .tuple(
      fc.oneof(padded(9999, 4), fc.constantFrom('2024', '2023', '2000', '1900', '0099')),
      fc.constant('-'),
      padded(13, 2),
      fc.constant('-'),
      padded(32, 2),
      fc.constantFrom('T', ' ', 't', ''),
      padded(25, 2),
      fc.constant(':'),
      padded(61, 2),
      fc.constantFrom(':', ''),
      padded(61, 2),
      fc.oneof(
        fc.constant(''),
        digits(0, 20).map((text) => `.${text}`),
        digits(0, 12).map((text) => `.000${text}`),
      ),
      fc.constantFrom('', 'Z', 'z', '+00', '+02', '+00:00', '-03:30', '-00', '+0000', ' '),
    )
    .map((parts) => parts.join('')),
  fc.constantFrom(
    '',
    '1795669811',
    '1795669811000',
    '20261126T051011Z',
    'yesterday',
    ' 2026-01-02T03:04:05Z',
    '2024-02-29 00:00:00',
    '2023-02-29 00:00:00',
  ),
);
const uuids = fc.oneof(
  { weight: 4, arbitrary: fc.uuid() },
  fc.uuid().map((text) => text.toUpperCase()),
  fc.uuid().map((text) => text.replace('-', '')),
  fc.uuid().map((text) => text.replace(/[a-f]/, 'g')),
  fc.constantFrom('', `{${device}}`, `${device} `, device.slice(1), `${device}0`),
);
const cellsOf: Readonly<Record<string, fc.Arbitrary<string>>> = {
  time: times,
  device_id: uuids,
  user_id: uuids,
  app_source: fc.constantFrom('mextrack', 'pshop', 'pshop', 'mextrack ', 'Pshop', 'mextrac', '', 'pshopp'),
  metadata: fc.constantFrom('', '', '', '{}', '"{""a"":1}"', '{"a":1}', '[]', '"'),
  battery: fc.oneof(digits(0, 3), fc.constantFrom('Córdoba', '🚗', '"x"', '\t', '\r', '#')),
};
/** Mostly what is valid, so that whole rows are. */
const validCells: Readonly<Record<string, fc.Arbitrary<string>>> = {
  time: fc
    .date({ min: new Date('1970-01-01'), max: new Date('2026-01-01'), noInvalidDate: true })
    .map((date) => date.toISOString()),
  device_id: fc.uuid(),
  user_id: fc.uuid(),
  app_source: fc.constantFrom('mextrack', 'pshop'),
  metadata: fc.constant(''),
  battery: digits(0, 3),
};
const validNumbers = fc.tuple(digits(1, 2), digits(1, 9)).map(([a, b]) => `${a}.${b}`);

const linesOf = (header: readonly string[], delimiter: string) => {
  const cells = header.map((name) =>
    fc.oneof(
      { weight: 12, arbitrary: validCells[name] ?? validNumbers },
      { weight: 1, arbitrary: cellsOf[name] ?? numbers },
    ),
  );
  const row = fc.tuple(...cells).map((row) => row.join(delimiter));
  const change = fc.tuple(
    fc.nat({ max: 200 }),
    fc.constantFrom(0, 1, 5),
    fc.constantFrom('', ',', ';', '"', '\r', ' ', '#', '\uFEFF', 'é', '\0', '0'),
  );
  return fc.oneof(
    { weight: 4, arbitrary: row },
    { weight: 1, arbitrary: row.map((text) => `${text}\r`) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(row, change)
        .map(([text, [at, count, into]]) => text.slice(0, at) + into + text.slice(at + count)),
    },
  );
};

const names = locationColumns.map(({ name }) => name);
const defaults = { deviceId: device, userId: user, appSource: 'pshop' };

describe('a row that is encoded from its bytes has the same bytes for the server', () => {
  test.each<[string, readonly string[], ParseOptions, number]>([
    ['with all columns', names, {}, 0],
    [
      'in another order, with a column to leave out',
      [...names.toReversed(), 'battery'],
      { columns: { battery: null } },
      3_600_000.5,
    ],
    [
      'with semicolons and defaults',
      ['battery', 'longitude', 'latitude', 'time', 'speed'],
      { delimiter: ';', columns: { battery: null }, defaults },
      0,
    ],
    [
      'with some defaults',
      ['time', 'latitude', 'longitude', 'user_id', 'device_id', 'heading'],
      { defaults },
      -1000,
    ],
  ])('%s', (_, header, options, shiftMs) => {
    const delimiter = options.delimiter ?? ',';
    const { fromStrings, fromBytes } = readersOf(header.join(delimiter), options, shiftMs);
    let plain = 0;
    fc.assert(
      fc.property(linesOf(header, delimiter), (line) => {
        const encoded = fromBytes(line);
        if (!encoded) return;
        plain += 1;
        expect(encoded).toEqual(fromStrings(line));
      }),
      { numRuns: 5_000 },
    );
    expect(plain).toBeGreaterThan(1_000);
  });
});

describe('a row', () => {
  const start = `2026-01-02T03:04:05Z,${device},${user},pshop`;
  const { fromStrings, fromBytes } = readersOf(names.join());

  test.each([
    `${start},45.45259561,-14.0181940,5.25,-20.5,30,359.99,`,
    `${start},45.4525956145,-14.018194014545454,,,,,`,
    `${start},+45,014,-1,-1,-1.0,-1,\r`,
    `${start},.5,5.,0,0,0,0,`,
    ...['.1', '.12', '.123', '.123456', '.123456789', '.0008000000', '.000000000900'].map(
      (part) => `${start.replace('05Z', `05${part}Z`)},1,2,,,,,`,
    ),
    ...['2026-01-02 03:04:05', '2026-01-02 03:04:05.5+00', '2024-02-29T23:59:59Z'].map(
      (time) => `${time}${start.slice(20)},1,2,,,,,`,
    ),
  ])('is plain: %s', (line) => {
    expect(fromBytes(line)).toBeDefined();
    expect(fromBytes(line)).toEqual(fromStrings(line));
  });

  test.each([
    [`${start},"45",14,,,,,`],
    [`${start},0,0,,,,,`],
    [`${start},91,0,,,,,`],
    [`${start},45,14,,,,`],
    [`${start},45,14,,,,,,`],
    [`${start},45,14,,,,1e2,`],
    [`${start.replace('Z', '+02')},45,14,,,,,`],
    [`2999${start.slice(4)},45,14,,,,,`],
    [`2023-02-29${start.slice(10)},45,14,,,,,`],
    [`# ${start},45,14,,,,,`],
    [''],
    ['\r'],
  ])('is left to the reader of lines: %s', (line) => {
    expect(fromBytes(line)).toBeUndefined();
  });

  test('with a time zone of its own is never plain', () => {
    const inRome = readersOf(names.join(), { timeZone: 'Europe/Rome' });
    expect(inRome.fromBytes(`${start},45,14,,,,,`)).toBeUndefined();
  });
});

describe('importLocations', () => {
  let db: Pool;
  beforeAll(async () => {
    ({ db } = await plainTracking());
  });

  test('stores and rejects the same with COPY as row by row', async () => {
    const lines = fc.sample(linesOf(names, ','), 3_000);
    const bytes = Buffer.from([names.join(), ...lines].join('\n'));
    const load = async (size: number, once: boolean) => {
      await db.query('TRUNCATE location_events');
      const rejects: unknown[] = [];
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
        bytes.subarray(index * size, (index + 1) * size),
      );
      const result = await importLocations(
        db,
        { format: 'csv', stream: Readable.from(pieces) },
        { once, shiftMs: 1500, onReject: (reject) => rejects.push(reject) },
      );
      const { rows } = await db.query(
        'SELECT * FROM location_events ORDER BY time, device_id, user_id, latitude',
      );
      return { result, rejects, rows };
    };
    const rowByRow = await load(65_536, true);
    expect(rowByRow.rows.length).toBeGreaterThan(500);
    expect(rowByRow.rejects.length).toBeGreaterThan(500);
    for (const size of [100, 65_536]) expect(await load(size, false)).toEqual(rowByRow);
  });
});
