// Writes the figures of a benchmark as JSON and as an SVG chart, which is too simple to need a charting library.
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatCount } from '../cli/output.ts';
import type { Spread } from './timing.ts';

/** Writes bench-<name>.json and bench-<name>.svg into a folder. */
export function writeFigures(name: string, folder: string, figures: object, chart: string): void {
  const [json, svg] = [`bench-${name}.json`, `bench-${name}.svg`];
  writeFileSync(resolve(folder, json), JSON.stringify(figures, null, 2));
  writeFileSync(resolve(folder, svg), chart);
  console.log(`${json} and ${svg} are in ${resolve(folder)}`);
}

export function barChart(title: string, bars: readonly { label: string; value: number }[]): string {
  const [width, left, row] = [760, 260, 26];
  const most = Math.max(...bars.map(({ value }) => value));
  const height = 40 + bars.length * row;
  const lines = bars.map(({ label, value }, index) => {
    const y = 40 + index * row;
    const length = Math.max(1, (value / most) * (width - left - 110));
    return `<text x="${left - 8}" y="${y + 14}" text-anchor="end">${escapeText(label)}</text>
  <rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="${row - 8}" fill="#2f6f9f"/>
  <text x="${(left + length + 6).toFixed(1)}" y="${y + 14}">${formatCount(Math.round(value))}</text>`;
  });
  return picture(title, width, height, lines);
}

/** Draws one line for each figure: its ratio at each size. Both axes are logarithmic. */
export function growthChart(
  title: string,
  measured: readonly { rows: number; figures: readonly { name: string; ratio: Spread }[] }[],
): string {
  const [width, height, left, top] = [900, 460, 60, 50];
  const [first, last] = [measured[0], measured.at(-1)];
  if (!first || !last) return '';
  const span = Math.max(1, Math.log10(last.rows / first.rows));
  const x = (rows: number) => left + (Math.log10(rows / first.rows) / span) * 420;
  // The axis shows ratios from 0.1 to 10.
  const y = (ratio: number) => top + 180 - Math.max(-1, Math.min(1, Math.log10(ratio))) * 180;
  const grid = [0.1, 0.2, 0.5, 1, 2, 5, 10].map(
    (ratio) =>
      `<path d="M${left} ${y(ratio)}h420" stroke="${ratio === 1 ? '#888' : '#ddd'}"/><text x="${left - 8}" y="${y(ratio) + 4}" text-anchor="end">${ratio}</text>`,
  );
  const sizes = measured.map(
    ({ rows }) =>
      `<text x="${x(rows)}" y="${height - 20}" text-anchor="middle">${Math.round(rows / 1e6)} M</text>`,
  );
  const lines = first.figures.map(({ name }, index) => {
    const points = measured.map(
      ({ rows, figures }) =>
        `${x(rows).toFixed(1)},${y(figures[index]?.ratio.median ?? Number.NaN).toFixed(1)}`,
    );
    const colour = `hsl(${(index * 360) / first.figures.length} 65% 40%)`;
    return `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>
  <text x="500" y="${top + 10 + index * 22}" fill="${colour}">${escapeText(name)}</text>`;
  });
  return picture(title, width, height, [...grid, ...sizes, ...lines]);
}

function picture(title: string, width: number, height: number, elements: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="13" role="img">
  <title>${escapeText(title)}</title>
  <text x="8" y="22" font-size="16">${escapeText(title)}</text>
  ${elements.join('\n  ')}
</svg>
`;
}

const escapeText = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
