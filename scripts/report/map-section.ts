// Maps on the page: where devices are, and the requested track.
import { formatCount, plural } from '../cli/output.ts';
import { details, distance, moment, show, table, when } from './elements.ts';
import type { Report } from './facts.ts';
import { type Html, html } from './html.ts';
import { positionMap, trackMap } from './map.ts';
import { type Position, silentHours, type Track } from './tracking-facts.ts';
import { type Tracking, trackingSections } from './tracking-section.ts';

export const mapSection = (report: Report): Html => trackingSections(report, 'Map', maps);

function maps({ positions, track }: Tracking, at: string): Html {
  return html`<h3>Latest positions</h3>
${show(positions, ({ total, shown }) => latest(total, shown, at))}
${track !== null && html`<h3>Track</h3>${show(track, trackPart)}`}`;
}

function latest(total: number, shown: readonly Position[], at: string): Html {
  if (total === 0) return html`<p>No device sent a point in the last ${silentHours} hours.</p>`;
  const rest = total > shown.length && `, the latest ${formatCount(shown.length)} of which are drawn`;
  return html`<p>${plural(total, 'device')} sent a point in the last ${silentHours} hours${rest}.</p>
${positionMap(shown)}
${details(
  'Every position in numbers',
  table({
    caption: 'Latest positions',
    head: ['device', 'time (UTC)', 'age', 'latitude', 'longitude', 'km/h'],
    numbers: [3, 4, 5],
    rows: shown.map(({ label, time, latitude, longitude, speed }) => [
      label,
      when(time),
      distance(time, at),
      latitude.toFixed(5),
      longitude.toFixed(5),
      speed === null ? '' : speed.toFixed(1),
    ]),
  }),
)}`;
}

function trackPart(track: Track): Html {
  const { label, deviceId, from, to, points } = track;
  const text = html`<p>${label} (<code>${deviceId}</code>), from ${moment(from)} to ${moment(to)}: ${plural(points.length, 'point')}.</p>`;
  if (points.length === 0) return text;
  const { map, stops } = trackMap(track);
  return html`${text}${map}
${
  stops.length > 0 &&
  table({
    caption: 'Stops of three minutes and more',
    head: ['stop', 'from (UTC)', 'minutes', 'latitude', 'longitude'],
    numbers: [2, 3, 4],
    rows: stops.map((stop, index) => [
      String(index + 1),
      when(stop.from),
      String(Math.round((Date.parse(stop.to) - Date.parse(stop.from)) / 60_000)),
      stop.latitude.toFixed(5),
      stop.longitude.toFixed(5),
    ]),
  })
}`;
}
