// A bar chart as SVG, for reports; too simple to need a charting library.

export function barChart(title: string, bars: readonly { label: string; value: number }[]): string {
  const [width, left, row] = [760, 260, 26];
  const most = Math.max(...bars.map(({ value }) => value));
  const height = 40 + bars.length * row;
  const lines = bars.map(({ label, value }, index) => {
    const y = 40 + index * row;
    const length = Math.max(1, (value / most) * (width - left - 110));
    const figure = Math.round(value).toLocaleString('en-US');
    return `<text x="${left - 8}" y="${y + 14}" text-anchor="end">${escapeText(label)}</text>
  <rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="${row - 8}" fill="#2f6f9f"/>
  <text x="${(left + length + 6).toFixed(1)}" y="${y + 14}">${figure}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="13">
  <text x="8" y="22" font-size="16">${escapeText(title)}</text>
  ${lines.join('\n  ')}
</svg>
`;
}

const escapeText = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
