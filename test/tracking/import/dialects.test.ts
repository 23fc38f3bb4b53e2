// Files as trackers, spreadsheets and other programs write them, and what becomes of each.
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type DialectOptions, detectFormat } from '../../../src/tracking/import/dialect.ts';
import { parseLocations } from '../../../src/tracking/import/parse.ts';

const defaults = {
  deviceId: '5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11',
  userId: '0a000000-0000-4000-8000-000000000003',
  appSource: 'mextrack',
};
const at = '2026-11-26T05:10:11.000Z';
const place = { latitude: 45.452, longitude: 14.018 };

/** Location by location what was read, or why not; in pieces of a few bytes, as a network may deliver them. */
async function read(name: string, text: string, options: DialectOptions = {}, size = 7) {
  const bytes = Buffer.from(text);
  async function* pieces() {
    for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
  }
  const found: object[] = [];
  for await (const batch of parseLocations(pieces(), detectFormat(text, name), { ...options, defaults })) {
    for (const parsed of batch) {
      if (!('location' in parsed)) found.push({ position: parsed.position, reason: parsed.reason });
      else {
        const { deviceId: _, userId: __, appSource: ___, time, ...rest } = parsed.location;
        const values = Object.entries(rest).filter(([, value]) => value !== null);
        found.push({ time: time.toISOString(), ...Object.fromEntries(values) });
      }
    }
  }
  return found;
}

const track = (points: string, attributes = '') =>
  `<?xml version="1.0"?>\n<gpx version="1.1"${attributes}><trk><trkseg>${points}</trkseg></trk></gpx>`;
const feature = (geometry: object | null, properties: object = {}) =>
  JSON.stringify({ type: 'FeatureCollection', features: [{ type: 'Feature', geometry, properties }] });

const shapes: [shape: string, file: string, text: string, options: DialectOptions, found: object[]][] = [
  [
    'the columns by name',
    'a.csv',
    `time,latitude,longitude\n${at},45.452,14.018`,
    {},
    [{ time: at, ...place }],
  ],
  ['short names', 'a.csv', `Timestamp,Lat,Lon\n${at},45.452,14.018`, {}, [{ time: at, ...place }]],
  [
    'lng, ele and course',
    'a.csv',
    `time,lat,lng,ele,course\n${at},45.452,14.018,7.5,90`,
    {},
    [{ time: at, ...place, altitude: 7.5, heading: 90 }],
  ],
  [
    'semicolons and decimal commas, as Excel writes',
    'a.csv',
    `time;lat;lon;ele\n${at};45,452;14,018;-7,5\n`,
    {},
    [{ time: at, ...place, altitude: -7.5 }],
  ],
  ['a line sep=', 'a.csv', `sep=;\r\ntime;lat;lon\r\n${at};45,452;14,018\r\n`, {}, [{ time: at, ...place }]],
  [
    'a byte order mark and quotes',
    'a.csv',
    `\uFEFF"time";"lat";"lon"\n"${at}";"45,452";"14,018"`,
    {},
    [{ time: at, ...place }],
  ],
  ['tabs', 'a.tsv', `time\tlat\tlon\n${at}\t45.452\t14.018`, {}, [{ time: at, ...place }]],
  ['bars', 'a.txt', `time|lat|lon\n${at}|45.452|14.018`, {}, [{ time: at, ...place }]],
  [
    'a delimiter that is named',
    'a.csv',
    `time:lat:lon\n1795669811:45.452:14.018`,
    { delimiter: ':' },
    [{ time: at, ...place }],
  ],
  ['seconds since 1970', 'a.csv', 'time,lat,lon\n1795669811,45.452,14.018', {}, [{ time: at, ...place }]],
  [
    'seconds with a fraction',
    'a.csv',
    'time,lat,lon\n1795669811.5,45.452,14.018',
    {},
    [{ time: '2026-11-26T05:10:11.500Z', ...place }],
  ],
  [
    'a fraction that is inexact as a binary number',
    'a.csv',
    'time,lat,lon\n1095903970.590,45.452,14.018',
    {},
    [{ time: '2004-09-23T01:46:10.590Z', ...place }],
  ],
  [
    'more decimals than milliseconds need, with zeros before them',
    'a.csv',
    'time,lat,lon\n2026-11-26T05:10:11.0008000000+01:00,45.452,14.018',
    {},
    [{ time: '2026-11-26T04:10:11.000Z', ...place }],
  ],
  [
    'milliseconds since 1970',
    'a.csv',
    'time,lat,lon\n1795669811000,45.452,14.018\n1795669811000.0,45.452,14.018',
    {},
    [
      { time: at, ...place },
      { time: at, ...place },
    ],
  ],
  [
    'ISO 8601 without punctuation',
    'a.csv',
    'time,lat,lon\n20261126T051011Z,45.452,14.018',
    {},
    [{ time: at, ...place }],
  ],
  [
    'times of a zone, over a change of summer time',
    'a.csv',
    [
      'time,lat,lon',
      '2026-07-01 07:10:11,45.452,14.018',
      '2026-11-26 06:10:11,45.452,14.018',
      '2026-11-26T05:10:11Z,45.452,14.018',
      '2026-03-29 02:30:00,45.452,14.018',
      '2026-13-05 10:00:00,45.452,14.018',
      '2026-07-01 10:00:75,45.452,14.018',
      '20260701T071011,45.452,14.018',
      '2026-07-01t07:10:11.0008000000,45.452,14.018',
      '20260701T051011Z,45.452,14.018',
    ].join('\n'),
    { timeZone: 'Europe/Rome' },
    [
      { time: '2026-07-01T05:10:11.000Z', ...place },
      { time: at, ...place },
      { time: at, ...place },
      { position: 5, reason: 'time is not ISO 8601: "2026-03-29 02:30:00 (not a time of Europe/Rome)"' },
      { position: 6, reason: 'time is not ISO 8601: "2026-13-05 10:00:00 (not a time of Europe/Rome)"' },
      { position: 7, reason: 'time is not ISO 8601: "2026-07-01 10:00:75 (not a time of Europe/Rome)"' },
      { time: '2026-07-01T05:10:11.000Z', ...place },
      { time: '2026-07-01T05:10:11.000Z', ...place },
      { time: '2026-07-01T05:10:11.000Z', ...place },
    ],
  ],
  [
    'names of its own, and columns to leave out',
    'a.csv',
    `when,n,e,battery\n${at},45.452,14.018,80`,
    {
      columns: { when: 'time', n: 'latitude', e: 'longitude', battery: null },
    },
    [{ time: at, ...place }],
  ],
  [
    'NDJSON with short names and numbers for times',
    'a.ndjson',
    '{"ts":1795669811,"lat":45.452,"lng":14.018}\n{"ts":1795669811000,"lat":45.452,"lng":"14.018"}\n{"odd":1}\n{"ts":1095903970.590,"lat":45.452,"lng":14.018}',
    { columns: { ts: 'time' } },
    [
      { time: at, ...place },
      { time: at, ...place },
      { position: 3, reason: 'has an unknown column "odd"' },
      { time: '2004-09-23T01:46:10.590Z', ...place },
    ],
  ],
  [
    'GeoJSON points',
    'a.geojson',
    feature({ type: 'Point', coordinates: [14.018, 45.452, 7.5] }, { time: at, speed: 3 }),
    {},
    [{ time: at, ...place, altitude: 7.5, speed: 3 }],
  ],
  [
    'a GeoJSON line with times',
    'a.json',
    feature(
      {
        type: 'LineString',
        coordinates: [
          [14.018, 45.452],
          [14.018, 45.452, 1],
        ],
      },
      { coordTimes: [at, at] },
    ),
    {},
    [
      { time: at, ...place },
      { time: at, ...place, altitude: 1 },
    ],
  ],
  [
    'GeoJSON without a place',
    'a.geojson',
    feature(null, { time: at }),
    {},
    [{ position: 1, reason: 'latitude is missing' }],
  ],
  [
    'GPX',
    'a.gpx',
    track(
      `<trkpt lat="45.452" lon="14.018"><ele>7.5</ele><time>${at}</time></trkpt>\n<trkpt lat="1" lon="2"/>`,
    ),
    {},
    [
      { time: at, ...place, altitude: 7.5 },
      { position: 3, reason: 'time is missing' },
    ],
  ],
  [
    'GPX with speeds of Garmin, in metres per second',
    'a.xml',
    track(
      `<trkpt lat="45.452" lon="14.018"><time>${at}</time><extensions><g:TrackPointExtension><g:speed>10</g:speed><g:course>271</g:course></g:TrackPointExtension></extensions></trkpt>`,
      ' xmlns:g="http://www.garmin.com/xmlschemas/TrackPointExtension/v2"',
    ),
    {},
    [{ time: at, ...place, speed: 36, heading: 271 }],
  ],
];

describe('a file of', () => {
  test.each(shapes)('%s', async (_, name, text, options, found) => {
    expect(await read(name, text, options)).toEqual(found);
    expect(await read(name, text, options, 100_000)).toEqual(found);
    // As the command reads a .gz.
    expect(detectFormat(gunzipSync(gzipSync(text)).toString(), `${name}.gz`)).toBe(detectFormat(text, name));
  });
});

describe('is refused as a whole', () => {
  test.each([
    [
      'a header with a name that could be anything',
      'a.csv',
      `time,lat,lon,battery\n${at},1,2,3`,
      {},
      /it says "battery".*--columns battery=\./,
    ],
    [
      'two names of one column',
      'a.csv',
      `time,lat,latitude,lon\n${at},1,1,2`,
      {},
      /has latitude twice: lat, latitude/,
    ],
    [
      'a time zone that does not exist',
      'a.csv',
      'time,lat,lon\n',
      { timeZone: 'Mars/Base' },
      /no time zone "Mars\/Base"/,
    ],
    [
      'a column that does not exist',
      'a.csv',
      'time,lat,lon\n',
      { columns: { lat: 'lattitude' } },
      /no column "lattitude" for "lat"/,
    ],
    ['GPX that ends too early', 'a.gpx', track('<trkpt lat="1" lon="2">').slice(0, -30), {}, /not whole GPX/],
    ['XML that is not GPX', 'a.xml', '<kml><Point/></kml>', {}, /not whole GPX: it has no element gpx/],
    [
      'GeoJSON that ends too early',
      'a.geojson',
      feature({ type: 'Point', coordinates: [1, 2] }).slice(0, -4),
      {},
      /not whole GeoJSON/,
    ],
    [
      'GeoJSON without features',
      'a.geojson',
      '{"type":"FeatureCollection","features":[]}',
      {},
      /has no features/,
    ],
  ] as [string, string, string, DialectOptions, RegExp][])('%s', async (_, name, text, options, message) => {
    await expect(read(name, text, options)).rejects.toThrow(message);
  });
});
