// Maps of places that no simulated fleet reaches, and what a track is made of.
import { describe, expect, test } from 'vitest';
import { positionMap, trackMap } from '../../scripts/report/map.ts';
import { stopsOf, stretchesOf } from '../../scripts/report/track.ts';
import type { Position } from '../../scripts/report/tracking-facts.ts';

const start = Date.parse('2026-11-01T06:00:00Z');
const at = (minute: number, values: Partial<Position> = {}): Position => ({
  deviceId: '5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11',
  label: 'Truck',
  time: new Date(start + minute * 60_000).toISOString(),
  latitude: 45,
  longitude: 9,
  speed: 40,
  ...values,
});

/** The picture for wide screens. */
const wide = (map: { markup: string }): string => map.markup.split('<div class="narrow">')[0] ?? '';
const dots = (svg: string): number[] =>
  [...svg.matchAll(/<circle[^>]*\bcx="([\d.]+)"/g)].map(([, x]) => Number(x));

describe('a map', () => {
  test.each([
    ['one place', [at(0)]],
    ['the poles', [at(0, { latitude: 90 }), at(0, { latitude: -90, longitude: 170 })]],
    [
      'the whole earth',
      [at(0, { longitude: -179.9 }), at(0, { longitude: 0.1 }), at(0, { longitude: 179.9 })],
    ],
  ])('of %s has numbers only', (_, positions) => {
    const { markup } = positionMap(positions);
    expect(markup).not.toMatch(/NaN|Infinity|undefined/);
    expect(dots(wide({ markup }))).toHaveLength(positions.length);
  });

  test('of places on both sides of 180° is small, and knows where they are', () => {
    for (const longitudes of [
      [-179.99, 179.99],
      [179.99, -179.99],
    ]) {
      const svg = wide(positionMap(longitudes.map((longitude) => at(0, { longitude }))));
      expect(svg).toMatch(/>(500 m|1 km)</);
      expect(svg).toMatch(/>179\.\d+° E</);
      expect(svg).toMatch(/>179\.\d+° W</);
      const [east = 0, west = 0] = longitudes[0] === 179.99 ? dots(svg) : dots(svg).reverse();
      expect(east).toBeLessThan(west);
    }
  });

  test('of a single point of a track', () => {
    expect(trackMap({ deviceId: '', label: 'x', from: '', to: '', points: [at(0)] }).map.markup).not.toMatch(
      /NaN/,
    );
  });
});

describe('a track', () => {
  test('changes its colour where the speed changes, without holes, and not across a gap', () => {
    const points = [at(0), at(1), at(2, { speed: 70 }), at(3, { speed: 70 }), at(60), at(61)];
    expect(
      stretchesOf(points).map(({ band, points }) => [band, points.map(({ time }) => time.slice(14, 16))]),
    ).toEqual([
      [2, ['00', '01']],
      [3, ['01', '02', '03']],
      [2, ['00', '01']],
    ]);
  });

  test('has a stop where the vehicle stands for three minutes, and not at a red light', () => {
    const speeds = [40, 0, 1, 40, 0, 2, 0, 1, 0, 40, null, null, null, null, null, 0, 0, 0, 0];
    const points = speeds.map((speed, minute) => at(minute, { speed }));
    expect(stopsOf(points).map(({ from, to }) => [from.slice(14, 16), to.slice(14, 16)])).toEqual([
      ['04', '08'],
      ['15', '18'],
    ]);
  });
});
