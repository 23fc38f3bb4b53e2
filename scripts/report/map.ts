// Draws maps without a background image: latest positions, and a track coloured by speed with its stops.
import * as Plot from '@observablehq/plot';
import { plural } from '../cli/output.ts';
import { type Html, html } from './html.ts';
import { figure, swatch, wideWidth } from './picture.ts';
import { type Stop, speedBands, stopsOf, stretchesOf } from './track.ts';
import type { Position, Track } from './tracking-facts.ts';

const kilometresPerDegree = 111.32;

type Place = Pick<Position, 'latitude' | 'longitude'>;

/** Position on the map, in kilometres from its centre. */
interface Projected {
  readonly east: number;
  readonly north: number;
}

/**
 * An equidistant cylindrical projection. Distances are exact at the latitude of the centre, so one scale bar is enough
 * for a city or a country. Places on both sides of 180° stay next to each other.
 */
class Projection {
  readonly latitude: number;
  readonly longitude: number;
  /** Width and height that contain all places, in kilometres. */
  readonly extent: Projected;
  readonly #perLongitude: number;

  constructor(places: readonly Place[]) {
    const first = places[0]?.longitude ?? 0;
    const longitudes = places.map(({ longitude }) => first + turn(longitude - first));
    const latitudes = places.map(({ latitude }) => latitude);
    const [west, east] = [Math.min(...longitudes), Math.max(...longitudes)];
    const [south, north] = [Math.min(...latitudes), Math.max(...latitudes)];
    this.latitude = (south + north) / 2;
    this.longitude = (west + east) / 2;
    this.#perLongitude = kilometresPerDegree * Math.max(0.01, Math.cos((this.latitude * Math.PI) / 180));
    this.extent = {
      east: (east - west) * this.#perLongitude,
      north: (north - south) * kilometresPerDegree,
    };
  }

  place({ latitude, longitude }: Place): Projected {
    return {
      east: turn(longitude - this.longitude) * this.#perLongitude,
      north: (latitude - this.latitude) * kilometresPerDegree,
    };
  }

  // Without `turn`, because lines of the grid may lie beyond 180° or 90°.
  longitudeAt = (east: number): number => this.longitude + east / this.#perLongitude;
  latitudeAt = (north: number): number => this.latitude + north / kilometresPerDegree;
  eastOf = (longitude: number): number => (longitude - this.longitude) * this.#perLongitude;
  northOf = (latitude: number): number => (latitude - this.latitude) * kilometresPerDegree;
}

/** Converts degrees to the range from -180 to 180. */
const turn = (degrees: number): number => ((((degrees + 180) % 360) + 360) % 360) - 180;

const margin = { left: 62, right: 14, top: 12, bottom: 30 };

/** For a width in pixels, returns plot options, the marks below and above the points, and kilometres per pixel. */
function ground(projection: Projection, width: number) {
  const room = width - margin.left - margin.right;
  // A map is at least one kilometre wide and high, also for a single place.
  const east = Math.max(projection.extent.east * 1.1, 1);
  const north = Math.max(projection.extent.north * 1.1, 1);
  const isWide = width === wideWidth;
  const height = room * Math.min(Math.max(north / east, isWide ? 0.4 : 0.8), isWide ? 0.6 : 1.2);
  const scale = Math.max(east / room, north / height);
  const [halfEast, halfNorth] = [(scale * room) / 2, (scale * height) / 2];
  const bar = roundDown(scale * room * 0.3);
  const barAt = { west: -halfEast + scale * 14, north: -halfNorth + scale * 16 };
  const options = {
    height: height + margin.top + margin.bottom,
    marginLeft: margin.left,
    marginRight: margin.right,
    marginTop: margin.top,
    marginBottom: margin.bottom,
    x: { domain: [-halfEast, halfEast], axis: null },
    y: { domain: [-halfNorth, halfNorth], axis: null },
  } as const;
  const degrees = (from: number, to: number) => gridDegrees(from, to, isWide ? 5 : 3);
  const meridians = degrees(projection.longitudeAt(-halfEast), projection.longitudeAt(halfEast));
  const parallels = degrees(projection.latitudeAt(-halfNorth), projection.latitudeAt(halfNorth));
  const below: Plot.Markish[] = [
    Plot.frame({ fill: 'var(--page)', stroke: 'var(--line)' }),
    Plot.gridX(meridians.values.map(projection.eastOf), { stroke: 'var(--line)', strokeOpacity: 1 }),
    Plot.gridY(parallels.values.map(projection.northOf), { stroke: 'var(--line)', strokeOpacity: 1 }),
    Plot.axisX(meridians.values.map(projection.eastOf), {
      label: null,
      tickSize: 0,
      tickFormat: (east: number) => compass(turn(projection.longitudeAt(east)), meridians.digits, 'E', 'W'),
    }),
    Plot.axisY(parallels.values.map(projection.northOf), {
      label: null,
      tickSize: 0,
      tickFormat: (north: number) => compass(projection.latitudeAt(north), parallels.digits, 'N', 'S'),
    }),
  ];
  const above: Plot.Markish[] = [
    Plot.link([bar], {
      x1: barAt.west,
      x2: barAt.west + bar,
      y1: barAt.north,
      y2: barAt.north,
      stroke: 'var(--ink)',
      strokeWidth: 3,
    }),
    Plot.text([lengthText(bar)], {
      x: barAt.west,
      y: barAt.north,
      text: (text: string) => text,
      dy: -10,
      textAnchor: 'start',
      fill: 'var(--ink)',
      stroke: 'var(--page)',
      strokeWidth: 4,
    }),
  ];
  return { options, below, above, scale };
}

/** Rounds down to 1, 2 or 5 times a power of ten. */
function roundDown(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([5, 2, 1].find((step) => step * power <= value) ?? 1) * power;
}

const lengthText = (kilometres: number): string =>
  kilometres < 1 ? `${Math.round(kilometres * 1000)} m` : `${Math.round(kilometres)} km`;

function gridDegrees(from: number, to: number, most: number): { values: number[]; digits: number } {
  const step = roundDown(Math.max((to - from) / most, 0.0001)) * 2;
  const values = [];
  for (let index = Math.ceil(from / step); index * step <= to; index += 1) values.push(index * step);
  return { values, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

const compass = (degrees: number, digits: number, above: string, below: string): string =>
  `${Math.abs(degrees).toFixed(digits)}° ${degrees < 0 ? below : above}`;

/** A label with an outline, so that it is readable on lines. */
const labelStyle = {
  x: 'east',
  y: 'north',
  text: 'shown',
  fill: 'var(--ink)',
  stroke: 'var(--page)',
  strokeWidth: 3,
};

export function positionMap(positions: readonly Position[]): Html {
  const projection = new Projection(positions);
  const dots = positions.map((position) => ({ ...position, ...projection.place(position) }));
  return figure({
    title: `Map of the latest positions of ${plural(positions.length, 'device')}`,
    draw: (width) => {
      const { options, below, above, scale } = ground(projection, width);
      const labels = labelsWithRoom(dots, scale, width);
      return {
        ...options,
        marks: [
          ...below,
          Plot.dot(dots, {
            x: 'east',
            y: 'north',
            r: 4.5,
            fill: 'var(--device)',
            stroke: 'var(--surface)',
            title: ({ label, time, speed }) =>
              `${label}, ${time.slice(0, 16).replace('T', ' ')} UTC${speed === null ? '' : `, ${speed} km/h`}`,
          }),
          Plot.text(labels, { ...labelStyle, dx: 8, textAnchor: 'start' }),
          ...above,
        ],
      };
    },
  });
}

/** Labels that do not overlap another label, another dot or the edge. The table and tooltips show all names. */
function labelsWithRoom<Dot extends Projected & { label: string }>(
  dots: readonly Dot[],
  scale: number,
  width: number,
) {
  const boxes = dots.map(({ east, north }) => boxAround(east / scale - 6, north / scale, 12, 12));
  const right = (width - margin.left - margin.right) / 2;
  return dots.flatMap((dot, index) => {
    const shown = dot.label.length > 24 ? `${dot.label.slice(0, 23)}…` : dot.label;
    const box = boxAround(dot.east / scale + 7, dot.north / scale, shown.length * 7 + 4, 15);
    const isFree = boxes.every((other, place) => place === index || !overlap(box, other)) && box.east < right;
    if (!isFree) return [];
    boxes.push(box);
    return [{ ...dot, shown }];
  });
}

interface Box {
  readonly west: number;
  readonly east: number;
  readonly south: number;
  readonly north: number;
}

const boxAround = (west: number, middle: number, width: number, height: number): Box => ({
  west,
  east: west + width,
  south: middle - height / 2,
  north: middle + height / 2,
});

const overlap = (one: Box, other: Box): boolean =>
  one.west < other.east && other.west < one.east && one.south < other.north && other.south < one.north;

export function trackMap({ label, points }: Track): { map: Html; stops: readonly Stop[] } {
  const projection = new Projection(points);
  const stretches = stretchesOf(points);
  const stops = stopsOf(points);
  const atStop = {
    x: (stop: Stop) => projection.place(stop).east,
    y: (stop: Stop) => projection.place(stop).north,
  };
  const line = stretches.flatMap(({ band, points }, stretch) =>
    points.map((point) => ({ ...projection.place(point), stretch, band })),
  );
  const ends = [points[0], points.at(-1)].flatMap((point, index) =>
    point ? [{ ...projection.place(point), shown: index === 0 ? 'start' : 'end' }] : [],
  );
  const map = figure({
    title: `Map of the track of ${label}: ${plural(points.length, 'point')}, ${plural(stops.length, 'stop')}`,
    legend: html`${speedBands.map(({ name }, band) => swatch(`line speed-${band + 1}`, name))}${stops.length > 0 && swatch('stop', 'stop, with its number in the table')}`,
    draw: (width) => {
      const { options, below, above } = ground(projection, width);
      return {
        ...options,
        color: { type: 'identity' },
        marks: [
          ...below,
          Plot.line(line, {
            x: 'east',
            y: 'north',
            z: 'stretch',
            stroke: ({ band }) => `var(--speed-${band + 1})`,
            strokeWidth: 2.5,
            strokeLinejoin: 'round',
            strokeLinecap: 'round',
          }),
          Plot.dot(ends, { x: 'east', y: 'north', r: 4, fill: 'var(--ink)', stroke: 'var(--surface)' }),
          Plot.text(ends, { ...labelStyle, dy: -11 }),
          Plot.dot(stops, {
            ...atStop,
            r: 9,
            fill: 'var(--surface)',
            stroke: 'var(--ink)',
            strokeWidth: 1.5,
          }),
          Plot.text(stops, {
            ...atStop,
            text: (_: Stop, index: number) => String(index + 1),
            fill: 'var(--ink)',
            fontWeight: 'bold',
          }),
          ...above,
        ],
      };
    },
  });
  return { map, stops };
}
