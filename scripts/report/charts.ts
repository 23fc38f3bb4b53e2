// The charts of tracking: chunks by day, and points by hour.
import * as Plot from '@observablehq/plot';
import { formatBytes, formatCount, plural } from '../cli/output.ts';
import { type Html, html } from './html.ts';
import { figure, swatch, wideWidth } from './picture.ts';
import type { ChunkFacts, HourFacts } from './tracking-facts.ts';

const hour = 3_600_000;
const day = 24 * hour;

export function chunkChart(chunks: readonly ChunkFacts[]): Html {
  const rows = chunks.map((chunk) => ({ ...chunk, from: new Date(chunk.from), to: new Date(chunk.to) }));
  const largest = Math.max(1, ...rows.map(({ bytes, rawBytes }) => Math.max(bytes, rawBytes ?? 0)));
  const [unit, size] = byteUnit(largest);
  const range = [rows[0]?.from ?? new Date(), rows.at(-1)?.to ?? new Date()] as const;
  const hasCompressed = chunks.some(({ isCompressed }) => isCompressed);
  const withRaw = rows.filter(({ rawBytes }) => rawBytes !== null);
  return figure({
    title: `Size of ${plural(chunks.length, 'chunk')} by day, raw and compressed`,
    legend: html`${swatch('raw', 'raw')}${hasCompressed && swatch('compressed', 'compressed')}${hasCompressed && swatch('before', 'before compression, and how many times larger')}`,
    draw: (width) => {
      const room = (width - 60) / Math.max(1, (range[1].getTime() - range[0].getTime()) / day);
      return {
        height: width === wideWidth ? 260 : 220,
        marginLeft: 44,
        marginRight: 24,
        marginTop: 28,
        x: dayAxis(range, width),
        y: { label: unit, domain: [0, (largest / size) * 1.08], ticks: 4, grid: true },
        marks: [
          Plot.rectY(rows, {
            x1: 'from',
            x2: 'to',
            y: ({ bytes }) => bytes / size,
            fill: ({ isCompressed }) => (isCompressed ? 'var(--compressed)' : 'var(--raw)'),
            inset: Math.min(2, room / 10),
            title: describeChunk,
          }),
          Plot.rectY(withRaw, {
            x1: 'from',
            x2: 'to',
            y: ({ rawBytes }) => (rawBytes ?? 0) / size,
            stroke: 'var(--muted)',
            strokeDasharray: '3,2',
            inset: Math.min(2, room / 10),
          }),
          Plot.text(room < 26 ? [] : withRaw, {
            x: ({ from, to }) => new Date((from.getTime() + to.getTime()) / 2),
            y: ({ rawBytes }) => (rawBytes ?? 0) / size,
            text: ({ rawBytes, bytes }) => `${((rawBytes ?? 0) / bytes).toFixed(1)}×`,
            dy: -8,
          }),
          Plot.ruleY([0], { stroke: 'var(--muted)' }),
        ],
        color: { type: 'identity' },
      } satisfies Plot.PlotOptions;
    },
  });
}

function describeChunk({
  from,
  isCompressed,
  bytes,
  rawBytes,
}: Omit<ChunkFacts, 'from' | 'to'> & { from: Date }) {
  const state = isCompressed ? `compressed, ${formatBytes(rawBytes ?? 0)} before` : 'raw';
  return `${from.toISOString().slice(0, 10)}: ${formatBytes(bytes)}, ${state}`;
}

export function hourChart(hours: readonly HourFacts[], at: string): Html {
  const points = new Map(hours.map((row) => [Date.parse(row.hour), row.points]));
  const from = Math.min(...points.keys());
  const to = Math.floor(Date.parse(at) / hour) * hour;
  // Hours without a point are zero.
  const rows = Array.from({ length: Math.max(1, (to - from) / hour + 1) }, (_, index) => ({
    hour: new Date(from + index * hour),
    points: points.get(from + index * hour) ?? 0,
  }));
  const range = [new Date(from), new Date(to + hour)] as const;
  const most = Math.max(1, ...rows.map((row) => row.points));
  return figure({
    title: `Points per hour since ${range[0].toISOString().slice(0, 10)}, ${formatCount(most)} at most`,
    draw: (width) => ({
      height: width === wideWidth ? 200 : 180,
      marginLeft: 52,
      marginRight: 24,
      marginTop: 24,
      x: dayAxis(range, width),
      y: { label: 'points', ticks: 4, grid: true, domain: [0, most * 1.05] },
      marks: [
        Plot.areaY([...rows, { hour: range[1], points: 0 }], {
          x: 'hour',
          y: 'points',
          curve: 'step-after',
          fill: 'var(--raw)',
        }),
        Plot.ruleY([0], { stroke: 'var(--muted)' }),
      ],
    }),
  });
}

function byteUnit(bytes: number): [unit: string, size: number] {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  const power = Math.min(Math.floor(Math.log(bytes) / Math.log(1024)), units.length - 1);
  return [units[power] ?? 'B', 1024 ** power];
}

/** Returns starts of days, only as many as there is room for labels. */
function dayTicks(from: Date, to: Date, width: number): Date[] {
  const days = (to.getTime() - from.getTime()) / day;
  const step = Math.max(1, Math.ceil(days / (width / 56)));
  const first = Math.ceil(from.getTime() / day) * day;
  const ticks = [];
  for (let time = first; time <= to.getTime(); time += step * day) ticks.push(new Date(time));
  return ticks;
}

const dayAxis = (range: readonly [Date, Date], width: number) => ({
  type: 'utc' as const,
  domain: [...range],
  ticks: dayTicks(...range, width),
  tickFormat: dayName,
  label: null,
});

const dayName = (date: Date): string =>
  date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });
