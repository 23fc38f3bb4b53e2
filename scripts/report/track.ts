// Divides a track into stretches of the same speed band, and finds where the vehicle stood.
import type { Position } from './tracking-facts.ts';

/** In km/h. `below` is exclusive. */
export const speedBands = [
  { below: 10, name: 'under 10 km/h' },
  { below: 30, name: '10 to 30' },
  { below: 60, name: '30 to 60' },
  { below: Number.POSITIVE_INFINITY, name: '60 and more' },
] as const;

/** In km/h. Receivers report lower speeds even while they stand. */
const standing = 3;
/** In milliseconds. A wait at a red light is not a stop. */
const shortestStop = 3 * 60_000;
/** In milliseconds. No line is drawn across a longer gap, because the route is unknown. */
const longestGap = 10 * 60_000;

export interface Stretch {
  readonly band: number;
  readonly points: readonly Position[];
}

/** Except after a gap, a stretch begins with the last point of the previous one, so that the line has no holes. */
export function stretchesOf(points: readonly Position[]): Stretch[] {
  const stretches: { band: number; points: Position[] }[] = [];
  const gap = gapOf(points);
  let before: Position | undefined;
  for (const point of points) {
    const band = speedBands.findIndex(({ below }) => (point.speed ?? 0) < below);
    const last = stretches.at(-1);
    const isNear = before && timeOf(point) - timeOf(before) <= gap;
    if (last && isNear && last.band === band) last.points.push(point);
    else stretches.push({ band, points: before && isNear ? [before, point] : [point] });
    before = point;
  }
  return stretches.filter((stretch) => stretch.points.length > 1);
}

/** Returns a limit in milliseconds: a longer time between two points is a gap. A thinned track has a higher limit. */
function gapOf(points: readonly Position[]): number {
  const steps = points.slice(1).map((point, index) => timeOf(point) - timeOf(points[index] as Position));
  const median = steps.sort((one, other) => one - other)[Math.floor(steps.length / 2)] ?? 0;
  return Math.max(longestGap, median * 3);
}

export interface Stop {
  readonly from: string;
  readonly to: string;
  readonly latitude: number;
  readonly longitude: number;
}

/** Periods of at least `shortestStop` in which the vehicle stands at every point. */
export function stopsOf(points: readonly Position[]): Stop[] {
  const stops: Stop[] = [];
  let [first, last]: (Position | undefined)[] = [];
  for (const point of [...points, undefined]) {
    if (point && (point.speed ?? standing) < standing) {
      first ??= point;
      last = point;
      continue;
    }
    if (first && last && timeOf(last) - timeOf(first) >= shortestStop) {
      stops.push({ from: first.time, to: last.time, latitude: first.latitude, longitude: first.longitude });
    }
    [first, last] = [undefined, undefined];
  }
  return stops;
}

const timeOf = ({ time }: Position): number => Date.parse(time);
