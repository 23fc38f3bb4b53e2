// Writes Markdown tables.

/** Escapes the cells: a pipe inside a cell would start the next one. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(markdownCell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

/** Outside of code, `<` would start an HTML element. */
const markdownCell = (text: string): string =>
  text
    .replaceAll('\n', ' ')
    .replaceAll('|', '\\|')
    .replaceAll(/`[^`]*`|</g, (piece) => (piece === '<' ? '&lt;' : piece));
